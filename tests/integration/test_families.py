"""Six families of towers, language models and tokenizers, each through tokenize, pretrain, sft and evaluate."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from minivlm.config import Prices
from minivlm.data.encoding import ChatEncoder, image_token_count
from minivlm.data.store import TokenStore
from minivlm.data.tokenization import write_stores
from minivlm.evaluation.heldout import read_heldout
from minivlm.evaluation.model_run import Settings, run_model
from minivlm.files import read_json
from minivlm.generation.loading import load_model
from minivlm.model import checkpoint
from minivlm.tracking import NullRun
from minivlm.training.places import Machine, Places
from minivlm.training.vision_language import train_vision_language
from tests.families import FAMILIES, write_base
from tests.unit.data.toys import conversation, picture, write_source

pytestmark = pytest.mark.slow
OPTIONS = dict(
    epochs=2.0, learning_rate=5e-3, min_learning_rate_ratio=0.1, warmup_ratio=0.1, weight_decay=0.01,
    max_grad_norm=1.0, precision="fp32", batch_tokens=400, accumulation=1, validations=2, log_steps=3,
    compile=False,
)  # fmt: skip
SETTINGS = Settings(batch_size=4, max_new_tokens=6, gap_pictures=4, seed=0, device="cpu", precision="fp32")


def opened(number):
    return Image.open(io.BytesIO(picture(number)))


def rows(count, first=0):
    """Rows with a picture each; every fourth of two turns, every third begins with a system message."""
    made = []
    for i in range(count):
        texts = ["请描述这张图片。", "有两只红色的帆船。" * (1 + i % 3)]
        turns = json.loads(conversation(*(texts if i % 4 else [*texts, "the sea?", "a bird in the sky"])))
        if i % 3 == 0:
            turns.insert(0, {"role": "system", "content": "看图说话。"})
        made.append((json.dumps(turns, ensure_ascii=False), picture(first + i)))
    return made


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request, tmp_path_factory):
    """The folder of a family after tokenize, pretrain and sft."""
    folder = tmp_path_factory.mktemp("family")
    torch.manual_seed(0)
    base = write_base(FAMILIES[request.param], folder)
    write_stores(
        {
            "pretrain": write_source(folder, "pretrain", rows(16)),
            "sft": write_source(folder, "sft", rows(16)),
            "heldout": write_source(folder, "heldout", rows(6, first=100)),
        },
        folder / "tokenize",
        encoder=ChatEncoder(base / "tokenizer"),
        image_tokens=image_token_count(base / "vision_tower"),
        max_length=256,
        validation_fraction=0.2,
    )
    for stage, freeze, start in (("pretrain", "projector+last_layer", None), ("sft", "llm", "pretrain")):
        train_vision_language(
            stage,
            places=Places(
                base=base,
                start=folder / start / "artifacts" / "model" if start else None,
                tokens=folder / "tokenize" / stage,
                pictures=folder / "tokenize" / "pictures",
                artifacts=folder / stage / "artifacts",
                reports=folder / stage / "reports",
                state=folder / stage / "state",
            ),
            machine=Machine("cpu", 1, 0, Prices(currency="CNY", cpu_hour=1.0, gpu_hour={"RTX 4090": 2.0})),
            tracker=NullRun(),
            seed=4,
            freeze=freeze,
            **OPTIONS,
        )
    return folder


def test_training_lowers_the_loss_and_reports_it(trained):
    first = read_json(trained / "pretrain" / "reports" / "metrics.json")
    second = read_json(trained / "sft" / "reports" / "metrics.json")
    assert np.isfinite([first["train_loss"], first["val_loss"]]).all()
    assert second["train_loss"] < first["train_loss"]
    assert read_json(trained / "sft" / "reports" / "cost.json")["flops"] > 0


def test_the_policy_of_the_first_stage_trained_projector_and_last_layer(trained):
    names = read_json(trained / "pretrain" / "reports" / "trained_parameters.json")["parameters"]
    layers = {name.split(".1.")[0] for name in names if "linear_1" not in name}
    assert len(layers) == 1 and "model.multi_modal_projector.linear_1.weight" in names
    before = checkpoint.load(trained / "pretrain" / "artifacts" / "model").state_dict()
    after = checkpoint.load(trained / "sft" / "artifacts" / "model").state_dict()
    frozen = [name for name in before if "vision_tower" in name or "linear_2" in name]
    assert all(torch.equal(before[name], after[name]) for name in frozen)


def test_evaluation_scores_and_captions(trained):
    heldout = read_heldout(trained / "artifacts" / "download" / "heldout.parquet", "heldout", 6)
    run = run_model(
        "sft", trained / "sft" / "artifacts" / "model", "请描述这张图片。", [heldout], [], SETTINGS, print
    )
    figures = run.figures["heldout"]
    assert len(run.captions["heldout"]) == 6 and np.isfinite(figures["loss"]) and figures["image_gap"] != 0
    for caption in run.captions["heldout"]:
        assert "<image>" not in caption and "<|" not in caption and "<think>" not in caption


def test_the_loss_of_evaluation_is_that_of_training(trained):
    """The mean over a store's rows, by transformers' own forward pass, is what training calls validation loss."""
    model = checkpoint.load(trained / "sft" / "artifacts" / "model")
    _, processor = load_model(trained / "sft" / "artifacts" / "model")
    store = TokenStore(trained / "tokenize" / "sft")
    nats = count = 0.0
    for i in store.validation_rows():
        image = opened(int(store.row_numbers[i]))
        pixels = processor.image_processor(images=[image], return_tensors="pt")["pixel_values"]
        ids = torch.from_numpy(store.tokens(i).astype(np.int64))[None]
        mask = torch.from_numpy(store.mask(i))[None]
        with torch.no_grad():
            loss = model(input_ids=ids, pixel_values=pixels, labels=ids.masked_fill(~mask, -100)).loss
        nats, count = nats + float(loss) * int(mask.sum()), count + int(mask.sum())
    expected = read_json(trained / "sft" / "reports" / "metrics.json")["val_loss"]
    assert nats / count == pytest.approx(expected, rel=1e-3)


def test_what_is_generated_from_is_what_was_trained_on(trained):
    """The processor's prompt, which generation starts from, is token for token the beginning of a row."""
    model, processor = load_model(trained / "sft" / "artifacts" / "model")
    encoder = ChatEncoder.of(processor)
    parts = [{"type": "image"}, {"type": "text", "text": "请描述这张图片。"}]
    prompt = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
    ids = processor(images=[opened(1)], text=[prompt])["input_ids"][0]
    turns = [{"role": "user", "content": "<image>\n请描述这张图片。"}, {"role": "assistant", "content": "有船。"}]
    [row] = encoder.encode_rows([turns], model.config.image_seq_length)
    assert row.ids[: int(np.argmax(row.mask))].tolist() == ids
    assert row.ids[row.mask][-1] in (encoder.end_token_id, *encoder.encode_plain(["\n"], framed=False)[0])


def test_generation_stops_where_answers_end(trained):
    model, processor = load_model(trained / "sft" / "artifacts" / "model")
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    encoder = ChatEncoder.of(processor)
    assert encoder.end_token_id in ends and set(ends) <= set(encoder.special_ids)
    assert model.generation_config.pad_token_id == encoder.pad_token_id != encoder.image_token_id
