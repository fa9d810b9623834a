"""Which files of a repository are pinned: what loading reads, and each thing once.

Weights are taken as safetensors where a repository has them, else as PyTorch's own file, never both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from minivlm.errors import UserError

Choose = Callable[[Collection[str]], list[str]]  # all paths of a repository → the paths to pin

TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
)
_TOKENIZER_PROPER = ("tokenizer.json", "vocab.json", "tokenizer.model")
_WEIGHTS = (("model", "safetensors"), ("pytorch_model", "bin"))


def named(*names: str | None) -> Choose:
    """Exactly these files, as a source of rows has them."""

    def choose(paths: Collection[str]) -> list[str]:
        wanted = [name for name in names if name]
        absent = [name for name in wanted if name not in paths]
        if absent:
            raise UserError(f"has no {' and no '.join(absent)}; there are: {_some(paths)}")
        return wanted

    return choose


def vision_tower(paths: Collection[str]) -> list[str]:
    """Configuration, weights and the picture processor's settings of a vision model."""
    return [*_present(paths, "preprocessor_config.json", "processor_config.json"), *_model(paths)]


def language_model(checkpoint: str | None) -> Choose:
    """A causal language model, or `checkpoint` in its place, with the tokenizer as far as that lies beside it."""

    def choose(paths: Collection[str]) -> list[str]:
        model = named(checkpoint)(paths) if checkpoint else _model(paths)
        return [*model, *_present(paths, "generation_config.json", *TOKENIZER)]

    return choose


def tokenizer(paths: Collection[str]) -> list[str]:
    """A tokenizer alone."""
    if not _present(paths, *_TOKENIZER_PROPER):
        raise UserError(f"has no tokenizer ({', '.join(_TOKENIZER_PROPER)}); there are: {_some(paths)}")
    return _present(paths, "config.json", *TOKENIZER)  # some tokenizers are told by the model's configuration


def _model(paths: Collection[str]) -> list[str]:
    if "config.json" not in paths:
        raise UserError(f"has no config.json; there are: {_some(paths)}")
    return ["config.json", *_weights(paths)]


def _weights(paths: Collection[str]) -> list[str]:
    for stem, suffix in _WEIGHTS:
        if f"{stem}.{suffix}" in paths:
            return [f"{stem}.{suffix}"]
        index = f"{stem}.{suffix}.index.json"
        pattern = re.compile(rf"{stem}-\d+-of-\d+\.{suffix}")
        shards = sorted(path for path in paths if pattern.fullmatch(path))
        if index in paths and shards:
            return [index, *shards]
    wanted = " or ".join(f"{stem}.{suffix}" for stem, suffix in _WEIGHTS)
    raise UserError(f"has no weights ({wanted}); there are: {_some(paths)}")


def _present(paths: Collection[str], *names: str) -> list[str]:
    return [name for name in names if name in paths]


def _some(paths: Collection[str]) -> str:
    shown = sorted(paths)[:12]
    return (", ".join(shown) + (" …" if len(paths) > len(shown) else "")) or "no files"
