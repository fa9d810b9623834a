"""What steps are measured on: a model of true size with random weights, rows as long as the original's, JPEGs.

Sizes are those of profiles/26m-random.yaml. Everything is made in a folder of its own; no stage runs, and nothing
but torch, transformers, NumPy and Pillow is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.record import ROOT
from benchmarks.stores import write_stores
from minivlm.files import write_json

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration

    from minivlm.data.store import PictureStore, TokenStore

STAGES = ("pretrain", "sft")
FREEZE: Mapping[str, Any] = {"pretrain": "projector", "sft": "llm"}  # as in profiles/4090.yaml and the original
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
    from minivlm.data.encoding import ChatEncoder

    setting = Setting(folder / "base", folder / "stores", seed=0)
    vocabulary = _write_base(setting.base, base, setting.seed)
    side, patch = base["vision_tower"]["image_size"], base["vision_tower"]["patch_size"]
    encoder = ChatEncoder(setting.base / "tokenizer")
    meta = {
        "image_token_id": encoder.image_token_id,
        "image_tokens": (side // patch) ** 2,
        "pad_token_id": encoder.pad_token_id,
    }
    write_stores(
        setting.stores, rows, (side, side), longest=longest, vocabulary=vocabulary, meta=meta, seed=setting.seed
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
