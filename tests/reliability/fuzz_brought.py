"""Models and tokenizers that somebody brings: read, written as a base's parts, put together to a LLaVA."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

from tests.reliability.fuzz_kind import Kind
from tests.reliability.fuzz_mutation import mutate_bytes, mutate_safetensors, mutate_value

_TOWERS = ("clip", "siglip", "siglip2")
_LLMS = ("llama", "qwen2", "gpt_neox", "mistral")  # chat templates of three kinds, and none
_WORDS = (b"{{", b"}}", b"{%", b"%}", b"messages", b"\xff", b"{# ", b"null", b"1e999", b'"\\ud800"')


def _parts(folder: Path, count: int, seed: int) -> Path:
    """<folder>/<family>: a model's directory; <folder>/base: what is made of one of each."""
    import torch

    from minivlm.training.pretrained import bring_language_model, bring_vision_tower
    from tests import families

    torch.set_num_threads(1)
    for name in _TOWERS:
        getattr(families, name)(folder / name, full=name == "siglip")
    for name in _LLMS:
        getattr(families, name)(folder / name)
        _write_older_config(folder / name)
    bring_vision_tower(folder / "clip", folder / "base" / "vision_tower")
    llm = folder / "llama"
    bring_language_model(llm, llm, folder / "base" / "llm", folder / "base" / "tokenizer")
    return folder


def _write_older_config(directory: Path) -> None:
    """What tokenizer_config.json had before: tokens by id, and the template, here one of several by name."""
    config = directory / "tokenizer_config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    added = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    values["added_tokens_decoder"] = {str(token.pop("id")): token for token in added}
    template = directory / "chat_template.jinja"
    if directory.name == "qwen2":
        text = template.read_text(encoding="utf-8")
        values["chat_template"] = [{"name": "default", "template": text}, {"name": "tools", "template": "x"}]
        template.unlink()
    config.write_text(json.dumps(values), encoding="utf-8")


def _make(parts: Path, random: Random, number: int, folder: Path) -> None:
    name, kind = random.choice([*((name, "vision_tower") for name in _TOWERS), *((name, "llm") for name in _LLMS)])
    shutil.copytree(parts / name, folder / kind)
    base = folder / "base"
    base.mkdir()
    for part in ("vision_tower", "llm", "tokenizer"):
        if part != kind and (part, kind) != ("tokenizer", "llm"):
            (base / part).symlink_to(parts / "base" / part)
    files = sorted((folder / kind).iterdir())
    weights = [1 if path.suffix == ".safetensors" else 4 for path in files]
    for path in dict.fromkeys(random.choices(files, weights, k=random.choice((1, 1, 1, 2)))):
        path.write_bytes(_changed(path.suffix, path.read_bytes(), random))


def _changed(suffix: str, data: bytes, random: Random) -> bytes:
    if suffix == ".safetensors":
        return mutate_safetensors(data, random)
    if suffix == ".json" and random.random() < 0.85:
        return json.dumps(mutate_value(json.loads(data), random)).encode()
    return mutate_bytes(data, random, words=_WORDS)


def _use(folder: Path) -> None:
    """As base brings parts, and as tokenize and the trainings begin with what it wrote."""
    from transformers import AutoModelForCausalLM

    from minivlm.data.encoding import ChatEncoder, image_token_count
    from minivlm.data.pictures import Preparation
    from minivlm.files import write_json
    from minivlm.model.checkpoint import load_strictly, make_processor, normalization
    from minivlm.model.fingerprint import write_fingerprint
    from minivlm.model.llava import assemble
    from minivlm.model.vision_language import scale_and_shift
    from minivlm.training.pretrained import bring_language_model, bring_vision_tower

    base, llm = folder / "base", folder / "llm"
    if llm.exists():
        bring_language_model(llm, llm, base / "llm", base / "tokenizer")
    else:
        bring_vision_tower(folder / "vision_tower", base / "vision_tower")
    write_json(base / "layout.json", {"vision_feature_layer": -1})
    write_fingerprint(load_strictly(AutoModelForCausalLM, base / "llm"), base, seed=0)
    turns = [{"role": "user", "content": "<image>\n?"}, {"role": "assistant", "content": "一只鸟。"}]
    [row] = ChatEncoder(base / "tokenizer").encode_rows([turns], image_token_count(base / "vision_tower"))
    assert row.mask.any()
    Preparation.read(base / "vision_tower")
    scale, shift = scale_and_shift(*normalization(base))
    assert scale.isfinite().all() and shift.isfinite().all()
    make_processor(base, assemble(base, seed=0).config)


KINDS = (Kind("models brought along", 30, _parts, _make, _use, 60.0),)
