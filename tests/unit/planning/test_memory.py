"""The bound on memory against what torch keeps, and against a whole process."""

import subprocess
import sys

import pytest
import torch

from minivlm.model.vision_language import VisionLanguageLoss
from minivlm.planning.memory import LIBRARIES, Batch, training_memory
from minivlm.training.optimizer import freeze
from tests.contract.imports import ROOT
from tests.unit.model.tiny import Batch as Rows

VOCABULARY, SIDE, PATCH = 600, 32, 16
PATCHES = (SIDE // PATCH) ** 2


def model(width, inner, layers):
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        image_size=SIDE, patch_size=PATCH,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=3,
            image_seq_length=PATCHES,
            projector_hidden_act="linear",
            vision_feature_layer=-1,
            multimodal_projector_bias=False,
        )
    )


def batch(rows, length, supervised):
    ids = torch.randint(4, VOCABULARY, (rows, length))
    ids[:, 1 : 1 + PATCHES] = 3
    pixels = torch.randint(0, 255, (rows, 3, SIDE, SIDE), dtype=torch.uint8)
    targets = torch.randint(4, VOCABULARY, (supervised,))
    return Rows(ids, pixels, torch.arange(rows), torch.arange(supervised), targets, rows * length)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("policy", ["projector", "first_last", "llm"])
@pytest.mark.parametrize(
    ("rows", "length", "width", "inner"), [(8, 64, 64, 172), (2, 300, 128, 200), (1, 600, 64, 96)]
)
def test_what_is_kept_for_the_backward_pass_stays_within_the_bound(precision, policy, rows, length, width, inner):
    torch.manual_seed(0)
    llava = model(width, inner, 3)
    trained = freeze(llava, policy)
    objective = VisionLanguageLoss(llava, (0.5,) * 3, (0.5,) * 3).train()
    some = batch(rows, length, rows * length // 2)
    own = {parameter.untyped_storage().data_ptr() for parameter in llava.parameters()}
    kept, alive = {}, []

    def pack(tensor):
        storage = tensor.untyped_storage()
        alive.append(tensor)  # or another tensor would take its place and be taken for it
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    low = torch.autocast("cpu", enabled=precision == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), low:
        objective(some)
    bound = training_memory(
        llava.config.vision_config,
        llava.config.text_config,
        saved=sum(parameter.numel() for parameter in llava.parameters()),
        trained=sum(trained.values()),
        batch=Batch(rows * length, rows * length // 2, length, rows),
        precision=precision,
        device="cpu",
    )
    most = sum(bound[name] for name in ("activations", "logits", "pictures", "low_precision"))
    assert sum(kept.values()) <= most
    if policy == "llm":  # beside a row of more than 512 tokens there may be shorter ones, which keep their scores
        assert sum(kept.values()) >= (0.4 if length <= 512 else 0.25) * most


def test_a_batch_twice_as_large_needs_twice_the_activations_and_no_more_weights():
    llava = model(64, 96, 2)
    figures = [
        training_memory(
            llava.config.vision_config, llava.config.text_config,
            saved=1000, trained=100, batch=Batch(n, n, 64, 1), precision="fp32", device="cuda:0",
        )
        for n in (128, 256)
    ]  # fmt: skip
    assert figures[1]["activations"] == 2 * figures[0]["activations"]
    assert figures[1]["weights"] == figures[0]["weights"] == 4000
    assert figures[0]["optimizer"] == 800 and figures[0]["libraries"] == LIBRARIES


CHILD = """
import io, resource, sys
from pathlib import Path
import numpy as np, torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM
from minivlm.config import load_params, parse_params
from minivlm.data.store_writer import PictureWriter, TokenWriter
from minivlm.files import write_json
from minivlm.model.fingerprint import write_fingerprint
from minivlm.model.llava import assemble
from minivlm.paths import Paths
from minivlm.planning import plan
from minivlm.tracking import NullRun
from minivlm.training.places import Machine, Places
from minivlm.training.vision_language import train_vision_language
from tests.unit.model.tiny import write_tokenizer

precision, paths, base = sys.argv[1], Paths(Path(sys.argv[2])), Path(sys.argv[2]) / "artifacts/base"
paths.params.write_bytes(Paths().params.read_bytes())
write_tokenizer(base / "tokenizer")
CLIPVisionModel(CLIPVisionConfig(hidden_size=192, intermediate_size=768, num_hidden_layers=4,
    num_attention_heads=4, image_size=64, patch_size=8)).save_pretrained(base / "vision_tower")
side = {"height": 64, "width": 64}
CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size=side).save_pretrained(base / "vision_tower")
LlamaForCausalLM(LlamaConfig(vocab_size=6400, hidden_size=384, intermediate_size=1024, num_hidden_layers=6,
    num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=True, pad_token_id=0, bos_token_id=1,
    eos_token_id=2)).save_pretrained(base / "llm")
write_json(base / "layout.json", {"vision_feature_layer": -1})
write_fingerprint(assemble(base, seed=0), base, seed=0)
pictures, random = PictureWriter(paths.tokens("pictures")), np.random.default_rng(0)
for i in range(72):
    stream = io.BytesIO()
    Image.fromarray(random.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(stream, "PNG")
    pictures.add(stream.getvalue())
pictures.close()
tokens = TokenWriter(paths.tokens("sft"), "uint16")
for i in range(72):
    ids = random.integers(4, 270, 128)
    ids[2:66] = 3
    tokens.add(i, ids, np.arange(128) > 70, [i])
tokens.close(np.arange(72) >= 64, {"image_token_id": 3, "image_tokens": 64, "pad_token_id": 0})
values = load_params(paths.params).model_dump(by_alias=True)
values["sft"] |= {"freeze": "llm", "epochs": 1.0, "batch_tokens": 4096, "validations": 1, "precision": precision}
values["runtime"]["device"] = "cpu"
params = parse_params(values)
planned = plan("sft", params, paths)
train_vision_language("sft", places=Places(base=base, start=None, tokens=paths.tokens("sft"),
    pictures=paths.tokens("pictures"), artifacts=paths.artifacts("sft"), reports=paths.reports("sft"),
    state=paths.state), machine=Machine("cpu", 1, 0, params.prices), tracker=NullRun(), seed=1,
    **params.sft.model_dump())
print(planned["memory"]["bytes"], 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize("precision", [pytest.param("fp32", marks=pytest.mark.long), "bf16"])
def test_a_training_process_stays_within_the_bound_and_takes_half_of_it(tmp_path, precision):
    done = subprocess.run(
        [sys.executable, "-c", CHILD, precision, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=True, env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )  # fmt: skip
    bound, peak = map(int, done.stdout.split()[-2:])
    assert bound / 2 < peak <= bound
