"""What the importer writes says what the original said: its recorded outputs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from minivlm.cli.main import app
from minivlm.files import read_json
from minivlm.generation.caption_files import printable
from minivlm.generation.prompts import Prompt, embed, picture_features
from minivlm.model.minimind import export_checkpoint, read_llm
from tests.numeric.original import (
    original_logits,
    runs,
)

GOLDENS = Path(__file__).resolve().parents[3] / "shared" / "parity"
COMMITS = ("a857219", "a157b66")
IMAGE_ID = 34


def run_import(checkpoint, vision, tokenizer, out, *more):
    """The command, as somebody types it."""
    arguments = [
        "import-checkpoint",
        checkpoint,
        "--vision",
        vision,
        "--tokenizer",
        tokenizer,
        "--out",
        out,
        *more,
    ]
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    return result.output


class Golden:
    """One commit's recordings and the directory that was imported from its checkpoint."""

    def __init__(self, folder, out):
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.folder, self.meta = folder, read_json(folder / "meta.json")
        self.cases = np.load(folder / "cases.npz")
        self.model = AutoModelForImageTextToText.from_pretrained(out).eval()
        self.processor = AutoProcessor.from_pretrained(out)
        self.out = out

    def __call__(self, name):
        return torch.from_numpy(self.cases[name])

    def pixels(self, case):
        return self(f"{case}.pixel_values").flatten(0, -4) if f"{case}.pixel_values" in self.cases else None

    def features(self, case):
        """(B, N, P, V): what the tower says of each row's pictures."""
        pixels = self(f"{case}.pixel_values")
        with torch.no_grad():
            outputs = self.model.model.vision_tower(pixels.flatten(0, -4)).last_hidden_state[:, 1:]
        return outputs.unflatten(0, pixels.shape[:2])


@pytest.fixture(scope="module", params=COMMITS)
def golden(request, tmp_path_factory):
    if not GOLDENS.is_dir():
        pytest.skip("the original's outputs are not here")
    folder = GOLDENS / request.param
    out = tmp_path_factory.mktemp(request.param) / "model"
    run_import(folder / "pretrain_vlm_64.pth", folder / "clip_vision", folder / "tokenizer", out,
               "--config", folder / "meta.json")  # fmt: skip
    return Golden(folder, out)


@pytest.mark.parametrize("case", ["train", "single", "rightpad_masked", "leftpad_masked", "text_only"])
def test_logits_are_the_original_s(golden, case):
    mask = golden(f"{case}.attention_mask") if f"{case}.attention_mask" in golden.cases else None
    with torch.no_grad():
        logits = golden.model(
            input_ids=golden(f"{case}.input_ids"), pixel_values=golden.pixels(case), attention_mask=mask
        ).logits
    real = torch.ones(logits.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
    assert (logits - golden(f"{case}.logits"))[real].abs().max() <= 1e-4


@pytest.mark.parametrize("case", ["quirk_stray", "quirk_truncated_run"])
def test_a_typed_picture_token_is_text_as_it_was_to_the_original(golden, case):
    """transformers counts tokens and refuses these ids; this project's prompts say which of them are pictures."""
    ids = golden(f"{case}.input_ids")[0].tolist()
    count = golden.meta["tokens_per_image"]
    places = runs(ids, golden.meta["image_token_id"], count)
    pictures = [any(start <= t < start + count for start in places) for t in range(len(ids))]
    features = golden.model.get_image_features(pixel_values=golden.pixels(case)[: len(places)]).pooler_output \
        if places else []  # fmt: skip
    stacked = torch.stack(list(features)) if places else torch.zeros(0, count, 64)
    embeddings, mask = embed(golden.model, [Prompt(ids, pictures)], stacked)
    with torch.no_grad():
        logits = golden.model(inputs_embeds=embeddings, attention_mask=mask).logits
    assert (logits - golden(f"{case}.logits")).abs().max() <= 1e-4
    assert pictures.count(False) > 0 and any(t == golden.meta["image_token_id"] and not p
                                             for t, p in zip(ids, pictures, strict=True))  # fmt: skip


def test_loss_and_projector_gradients_are_the_original_s(golden):
    loss = masked_loss(golden)
    loss.backward()
    projector = golden.model.model.multi_modal_projector.linear_1
    assert loss.item() == pytest.approx(float(golden.cases["train.loss"]), abs=1e-5)
    for gradient, name in ((projector.weight.grad, "proj_weight"), (projector.bias.grad, "proj_bias")):
        expected = golden(f"grad_pretrain.{name}")
        assert (gradient - expected).norm() <= 1e-4 * expected.norm(), name
    total = torch.stack([projector.weight.grad.norm(), projector.bias.grad.norm()]).norm()
    assert total.item() == pytest.approx(float(golden.cases["grad_pretrain.total_norm"]), rel=1e-4)


def test_gradients_of_sft_are_the_original_s(golden):
    masked_loss(golden).backward()
    ours = {
        name: parameter.grad for name, parameter in golden.model.named_parameters() if parameter.grad is not None
    }
    for key, norm in zip(golden.cases["grad_sft.names"], golden.cases["grad_sft.norms"], strict=True):
        name = str(key).replace("vision_proj.vision_proj.0.", "model.multi_modal_projector.linear_1.")
        name = (
            name.replace("model.", "model.language_model.", 1)
            if name == key and name != "lm_head.weight"
            else name
        )
        name = "model.language_model.embed_tokens.weight" if name == "lm_head.weight" else name
        assert ours[name].norm().item() == pytest.approx(float(norm), rel=1e-4, abs=1e-6), key
    rows = ours["model.language_model.embed_tokens.weight"].norm(dim=1)
    assert (rows - golden("grad_sft.embed_row_norms")).abs().max() <= 1e-5


def masked_loss(golden):
    """The original's: the mean over supervised tokens; targets are shifted already."""
    golden.model.zero_grad()
    logits = golden.model(input_ids=golden("train.input_ids"), pixel_values=golden.pixels("train")).logits
    losses = torch.nn.functional.cross_entropy(logits.mT, golden("train.targets"), reduction="none")
    mask = golden("train.loss_mask")
    return (losses * mask).sum() / mask.sum()


def test_the_same_greedy_tokens(golden):
    prompt = golden("generate.input_ids")
    output = golden.model.generate(
        input_ids=prompt, pixel_values=golden.pixels("generate"), do_sample=False, max_new_tokens=12,
        attention_mask=torch.ones_like(prompt),
    )  # fmt: skip
    assert output[0, prompt.shape[1] :].tolist() == golden.cases["generate.new_ids"].tolist()


def test_the_command_s_captions_are_those_tokens(golden):
    """From the picture's file: its preparation, the prompt by segments, embeddings, greedy steps."""
    recorded = golden.pixels("generate")
    number = [bool((recorded == row).all()) for row in golden.pixels("train")].index(True)
    path = sorted((golden.folder / "images").iterdir())[number]
    result = CliRunner().invoke(
        app,
        [
            "caption",
            str(path),
            "--model",
            str(golden.out),
            "--question",
            "请描述这张图片。",
            "--max-new-tokens",
            "12",
        ],
    )
    expected = golden.processor.decode(golden.cases["generate.new_ids"], skip_special_tokens=True)
    assert result.stdout == f"{path}\t{printable(expected)}\n"


def test_pictures_are_prepared_as_the_original_does(golden):
    """One of them is transparent: the original drops that, transformers 5 would lay it on white."""
    rows = [json.loads(line) for line in (golden.folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    names = [name.strip() for row in rows for name in row["image"].split(",")]
    pictures = [Image.open(golden.folder / "images" / name) for name in names]
    assert {picture.mode for picture in pictures} == {"RGB", "RGBA"}
    features = picture_features(golden.model, golden.processor, pictures)
    expected = golden.model.get_image_features(pixel_values=golden.pixels("train")).pooler_output
    assert (features - torch.stack(list(expected))).abs().max() <= 1e-5
    opaque = [picture.convert("RGB") for picture in pictures]  # as the model card says
    values = golden.processor.image_processor(images=opaque, return_tensors="pt")["pixel_values"]
    assert (values - golden.pixels("train")).abs().max() <= 1e-5


def test_rows_become_the_original_s_tokens(golden):
    """Through the saved template and processor: `<image>` where the original's rows have it."""
    rows = [json.loads(line) for line in (golden.folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    for i, row in enumerate(rows):
        pictures = [Image.open(golden.folder / "images" / name.strip()) for name in row["image"].split(",")]
        text = golden.processor.apply_chat_template(row["conversations"])
        ids = golden.processor(images=pictures, text=[text], return_tensors="pt")["input_ids"][0]
        length = int(golden.cases["train.lengths"][i])
        expected = golden.cases["train.input_ids"][i][:length].tolist()
        assert ids.tolist()[:length] == expected


def test_a_question_is_the_original_s_prompt(golden):
    content = [{"type": "image"}, {"type": "text", "text": "请描述这张图片。"}]
    text = golden.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    picture = Image.new("RGB", (40, 40))
    ids = golden.processor(images=[picture], text=[text], return_tensors="pt")["input_ids"]
    assert ids.tolist() == golden.cases["generate.input_ids"].tolist()


def test_transformers_pipeline_answers(golden):
    """With a typed '@', which its processor alone would take for a picture."""
    from transformers import pipeline

    ask = pipeline("image-text-to-text", model=str(golden.out), device="cpu")
    picture = Image.new("RGB", (40, 40), "red")
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "邮箱a@b，请描述。"}]
    answer = ask(
        text=[{"role": "user", "content": content}], max_new_tokens=6, do_sample=False, return_full_text=False
    )
    text = golden.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = golden.processor(images=[picture], text=[text], return_tensors="pt")
    expected = golden.model.generate(**inputs, max_new_tokens=6, do_sample=False)[
        0, inputs["input_ids"].shape[1] :
    ]
    assert answer[0]["generated_text"] == golden.processor.decode(expected, skip_special_tokens=True)


def test_a_full_clip_gives_the_same_directory(golden, tmp_path):
    full = golden.folder / "clip_full"
    if not full.is_dir():
        pytest.skip("recorded for one commit")
    run_import(golden.folder / "pretrain_vlm_64.pth", full, golden.folder / "tokenizer", tmp_path / "model",
               "--config", golden.folder / "meta.json")  # fmt: skip
    for name in ("model.safetensors", "config.json", "processor_config.json"):
        assert (tmp_path / "model" / name).read_bytes() == (golden.out / name).read_bytes(), name


def test_what_shapes_say_need_not_be_given(golden, tmp_path):
    given = {"num_attention_heads": golden.meta["upstream_config"]["num_attention_heads"],
             "max_position_embeddings": golden.meta["upstream_config"]["max_position_embeddings"]}  # fmt: skip
    (tmp_path / "few.json").write_text(json.dumps(given))
    run_import(golden.folder / "pretrain_vlm_64.pth", golden.folder / "clip_vision", golden.folder / "tokenizer",
               tmp_path / "model", "--config", tmp_path / "few.json")  # fmt: skip
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "model" / name).read_bytes() == (golden.out / name).read_bytes(), name


def test_export_gives_the_file_back(golden, tmp_path):
    export_checkpoint(golden.out, tmp_path / "back.pth")
    before = torch.load(golden.folder / "pretrain_vlm_64.pth", weights_only=True)
    after = torch.load(tmp_path / "back.pth", weights_only=True)
    assert list(before) == list(after)
    for key, tensor in before.items():
        assert tensor.dtype == after[key].dtype and torch.equal(tensor, after[key]), key


def test_the_bare_language_model_is_read(golden):
    llm = read_llm(golden.folder / "llm_64.pth", golden.meta["upstream_config"])
    state = torch.load(golden.folder / "llm_64.pth", weights_only=True)
    ids = golden("text_only.input_ids")
    with torch.no_grad():
        logits = llm(input_ids=ids).logits
    expected = original_logits(state, golden.meta["upstream_config"], ids)
    assert (logits - expected).abs().max() <= 1e-4


@pytest.mark.parametrize(
    "case",
    ["train", "single", "rightpad_masked", "leftpad_masked", "text_only", "quirk_stray", "quirk_truncated_run"],
)
def test_the_forward_pass_written_anew_is_the_original_s(golden, case):
    """Before it judges anything it is judged itself."""
    state = torch.load(golden.folder / "pretrain_vlm_64.pth", weights_only=True)
    mask = golden(f"{case}.attention_mask") if f"{case}.attention_mask" in golden.cases else None
    features = None if golden.pixels(case) is None else golden.features(case)
    ids = golden(f"{case}.input_ids")
    logits = original_logits(state, golden.meta["upstream_config"], ids, features, mask=mask)
    real = torch.ones_like(ids).bool() if mask is None else mask.bool()
    assert (logits - golden(f"{case}.logits"))[real].abs().max() <= 2e-5
