"""What steps are measured on: a model of true size with random weights, rows as long as the original's, JPEGs.

Sizes are those of profiles/26m-random.yaml. Everything is made in a folder of its own; no stage runs, and nothing
but torch, transformers, NumPy and Pillow is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.record import ROOT
from minivlm.files import write_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from transformers import LlavaForConditionalGeneration

    from minivlm.data.store import PictureStore, TokenStore

STAGES = ("pretrain", "sft")
FREEZE: Mapping[str, Any] = {"pretrain": "projector", "sft": "llm"}  # as in profiles/4090.yaml and the original
PROMPT_TOKENS = 20  # header, question and the answer's header
DRAWN = 256  # scenes at most; further pictures are copies of them with other bytes behind the picture's end
JPEG_QUALITY = 90
_LLM = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "key_value_heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_position_embeddings",
    "rope_theta": "rope_theta",
}


@dataclass(frozen=True)
class Answers:
    """Supervised tokens of a row: log-normal with this mean and sigma, so that few rows are long."""

    mean: float
    sigma: float

    def draw(self, random: np.random.Generator, rows: int, longest: int) -> npt.NDArray[np.int64]:
        """(rows,), each from 4 to `longest`."""
        import numpy as np

        drawn = random.lognormal(math.log(self.mean) - self.sigma**2 / 2, self.sigma, rows)
        return np.clip(drawn.round(), 4, longest).astype(np.int64)


# With 196 image tokens and the prompt: rows of 250 and of 400 tokens on average, the lengths that the original's
# schedule of 329 PFLOP is counted with.
ANSWERS = {"pretrain": Answers(34, 0.4), "sft": Answers(184, 0.6)}


@dataclass(frozen=True)
class Setting:
    """A base directory as the stage `base` leaves it, and stores of rows; every row has a picture of its own."""

    base: Path
    stores: Path
    seed: int

    def model(self) -> LlavaForConditionalGeneration:
        """A LLaVA of these weights, float32, on the CPU: equal at every call."""
        from minivlm.model.llava import assemble

        return assemble(self.base, seed=self.seed)

    def tokens(self, stage: str) -> TokenStore:
        """The rows of a stage."""
        from minivlm.data.store import TokenStore

        return TokenStore(self.stores / stage)

    def pictures(self) -> PictureStore:
        """The pictures of all rows."""
        from minivlm.data.store import PictureStore

        return PictureStore(self.stores / "pictures")


def profile() -> dict[str, Any]:
    """profiles/26m-random.yaml, whose numbers YAML 1.1 reads as 1.2 does: its parser comes with transformers."""
    import yaml  # type: ignore[import-untyped]

    text = (ROOT / "profiles" / "26m-random.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def write_setting(folder: Path, base: Mapping[str, Any], *, rows: int, longest: Mapping[str, int]) -> Setting:
    """Draw weights, rows and pictures; `base`: that section of a profile, `longest`: tokens at most, by stage."""
    setting = Setting(folder / "base", folder / "stores", seed=0)
    vocabulary = _write_base(setting.base, base, setting.seed)
    side, patch = base["vision_tower"]["image_size"], base["vision_tower"]["patch_size"]
    _write_stores(
        setting, rows=rows, longest=longest, vocabulary=vocabulary, side=side, image_tokens=(side // patch) ** 2
    )
    return setting


def _write_base(directory: Path, section: Mapping[str, Any], seed: int) -> int:
    """tokenizer/, vision_tower/, llm/ and layout.json; the size of the vocabulary."""
    import torch

    from minivlm.data.bpe import train_tokenizer
    from minivlm.data.chat import SPECIAL_TOKENS
    from minivlm.training.base_llm import random_llm
    from minivlm.training.tower import random_tower

    vocabulary = section["tokenizer"]["vocabulary"]
    found = train_tokenizer(
        _words(seed), directory / "tokenizer", vocabulary=vocabulary, min_frequency=2, longest_token=12
    )
    torch.manual_seed(seed)
    names = ("image_size", "patch_size", "hidden_size", "layers", "heads", "intermediate_size", "projection_size")
    shape = {name: section["vision_tower"][name] for name in names}
    random_tower(directory / "vision_tower", shape=shape | {"text_layers": 1})
    llm = {theirs: section["llm"][ours] for theirs, ours in _LLM.items()} | {"vocab_size": max(found, vocabulary)}
    special = {f"{name}_token_id": i for i, name in enumerate(("pad", "bos", "eos"))}
    assert len(SPECIAL_TOKENS) > len(special)  # pad, begin and end of a turn, <image>
    random_llm(directory / "llm", shape=llm, special_ids=special)
    write_json(directory / "layout.json", {"vision_feature_layer": section["vision_feature_layer"]})
    return int(llm["vocab_size"])


def _words(seed: int) -> list[str]:
    """Captions of drawn scenes, for a tokenizer that can speak of them."""
    from minivlm.data.scenes.conversations import pretrain_row
    from minivlm.data.scenes.layout import sample_scene, stream

    return [pretrain_row(sample_scene(seed, "train", i), stream(seed, "train", i, "pretrain")) for i in range(200)]


def _write_stores(
    setting: Setting, *, rows: int, longest: Mapping[str, int], vocabulary: int, side: int, image_tokens: int
) -> None:
    import numpy as np

    from minivlm.data.encoding import ChatEncoder
    from minivlm.data.store_writer import PictureWriter, TokenWriter

    encoder = ChatEncoder(setting.base / "tokenizer")
    meta = {
        "image_token_id": encoder.image_token_id,
        "image_tokens": image_tokens,
        "pad_token_id": encoder.pad_token_id,
    }
    pictures = PictureWriter(setting.stores / "pictures")
    drawn = [_picture(setting.seed, i, side) for i in range(min(rows, DRAWN))]
    ids = [pictures.add(_copy(drawn[i % DRAWN], i // DRAWN))[0] for i in range(rows)]
    pictures.close()
    before = PROMPT_TOKENS // 2
    for number, stage in enumerate(STAGES):
        random = np.random.default_rng((setting.seed, number))
        writer = TokenWriter(setting.stores / stage, "uint16")
        answers = ANSWERS[stage].draw(random, rows, longest[stage] - image_tokens - PROMPT_TOKENS)
        for row, answer in enumerate(answers):
            tokens = random.integers(len(encoder.special_ids), vocabulary, image_tokens + PROMPT_TOKENS + answer)
            tokens[before : before + image_tokens] = encoder.image_token_id
            mask = np.arange(len(tokens)) >= image_tokens + PROMPT_TOKENS
            writer.add(row, tokens, mask, [ids[row]])
        writer.close(np.zeros(rows, np.bool_), meta)


def _picture(seed: int, index: int, side: int) -> bytes:
    """A drawn scene as a JPEG file; a copy of it with other bytes behind its end decodes in the same time."""
    from minivlm.data.scenes.draw import encode, render
    from minivlm.data.scenes.layout import sample_scene

    return encode(render(sample_scene(seed, "train", index), side), JPEG_QUALITY)


def _copy(picture: bytes, number: int) -> bytes:
    return picture + number.to_bytes(4, "big") if number else picture
