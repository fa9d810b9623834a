"""The language model of the base, by source: trained, drawn at random, or brought with its tokenizer.

Each way ends in `llm/` (and, when brought, `tokenizer/`) of the base's directory and in figures for metrics.json.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.config import Base
from minivlm.data.packing import TextStore
from minivlm.data.texts import TextFile, read_texts
from minivlm.training.base_data import Conversation, held_back, task_rows
from minivlm.training.cost_report import Spent
from minivlm.training.keeping import Keep
from minivlm.training.logbook import Logbook
from minivlm.training.result import FitResult

if TYPE_CHECKING:
    from minivlm.data.encoding import ChatEncoder

Figures = dict[str, Any]
History = list[tuple[int, dict[str, float], int | None]]
"""Step, metrics, and milliseconds since 1970 where states are kept."""

_SHAPE = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "key_value_heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_position_embeddings",
    "rope_theta": "rope_theta",
}
"""LlamaConfig's names → those of base.llm."""


def train_language_model(
    tasks: Sequence[Conversation],
    texts: Sequence[TextFile],
    folder: Path,
    directory: Path,
    section: Base,
    seed: int,
    shared: Mapping[str, Any],
    keep: Keep | None,
    threads: int,
) -> tuple[Figures, History, Spent]:
    """Train on the tasks of conversations and on the texts, whose tokens are kept in `folder` meanwhile.

    (figures, what was logged of which step and when, what it took): all that it takes and returns is small,
    because it may run in a process of its own.
    """
    import numpy as np

    from minivlm.data.encoding import ChatEncoder
    from minivlm.training.base_llm import train_llm
    from minivlm.training.device import seed_everything
    from minivlm.training.mixture import PackedTexts

    seed_everything(seed, threads)
    others = {"source", "pretrained", "text_tasks", "text_length", *_SHAPE.values()}
    values = section.llm.model_dump(exclude=others)
    encoder = ChatEncoder(directory / "tokenizer")
    packed = None
    if texts:
        store = TextStore.write(read_texts(texts), folder, encoder, section.validation_fraction)
        packed = PackedTexts(store, section.llm.text_length or section.llm.max_position_embeddings)
    headers = np.concatenate(encoder.encode_plain(["system", "user", "assistant"], framed=False))
    history: History = []

    def note(metrics: dict[str, float], step: int, time: int | None = None) -> None:
        history.append((step, metrics, time))

    result, losses = train_llm(
        task_rows(tasks, encoder, section.llm.max_position_embeddings),
        held_back(tasks, section.validation_fraction),
        directory / "llm",
        **_make(section, encoder),
        image_token_id=encoder.image_token_id,
        header_ids=headers.tolist(),
        seed=seed,
        texts=packed,
        keep=keep,
        on_log=Logbook(keep.folder, note) if keep else lambda step, metrics: note(metrics, step),
        **values,
        **shared,
    )
    figures = training_figures(result)
    if packed:
        figures |= _text_figures(packed.store, losses, encoder.vocabulary)
    return figures, history, Spent.of(result)


def draw_language_model(directory: Path, section: Base, seed: int) -> Figures:
    """A model of the section's sizes with the weights that the seed draws; no step is trained."""
    import torch

    from minivlm.data.encoding import ChatEncoder
    from minivlm.training.base_llm import random_llm

    torch.manual_seed(seed)
    encoder = ChatEncoder(directory / "tokenizer")
    made = _make(section, encoder)
    # Few words make few tokens; the model has the size that was asked for all the same.
    made["shape"]["vocab_size"] = max(encoder.vocabulary, section.tokenizer.vocabulary)
    random_llm(directory / "llm", **made)
    return {"source": "random", "parameters": parameter_count(directory / "llm"), "steps": 0}


def bring_language_model(section: Base, directory: Path, brought: Mapping[str, Path]) -> dict[str, Figures]:
    """Model and tokenizer from the folders of `brought`; figures of both parts."""
    from minivlm.data.encoding import ChatEncoder
    from minivlm.training import pretrained

    place = section.llm.pretrained
    assert place is not None  # find_parts has seen to it
    pretrained.bring_language_model(
        brought["llm"],
        brought.get("tokenizer", brought["llm"]),
        directory / "llm",
        directory / "tokenizer",
        checkpoint=place.checkpoint,
        config=place.config,
    )
    tokens = ChatEncoder(directory / "tokenizer").vocabulary
    origin = section.llm_source
    return {
        "tokenizer": {"source": origin, "tokens": tokens},
        "llm": {"source": origin, "parameters": parameter_count(directory / "llm")},
    }


def training_figures(result: FitResult) -> Figures:
    """What metrics.json says of a training."""
    figures: Figures = {"train_loss": round(result.train_loss, 6), "steps": result.steps}
    if result.val_loss is not None:
        figures |= {"val_loss": round(result.val_loss, 6), "best_step": result.best_step}
    return figures | {"samples": result.samples, "tokens": result.tokens}


def parameter_count(directory: Path) -> int:
    """Numbers in the safetensors files of a model directory: tied weights once, as they are saved."""
    from safetensors import safe_open

    count = 0
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as weights:
            count += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return count


def _make(section: Base, encoder: ChatEncoder) -> dict[str, Any]:
    """Shape and special tokens of the Llama made here."""
    values = section.llm.model_dump()
    pad, bos, eos = encoder.special_ids[:3]
    return {
        "shape": {"vocab_size": encoder.vocabulary} | {theirs: values[ours] for theirs, ours in _SHAPE.items()},
        "special_ids": {"pad_token_id": pad, "bos_token_id": bos, "eos_token_id": eos},
    }


def _text_figures(store: TextStore, losses: Mapping[str, float], vocabulary: int) -> Figures:
    """Sizes of the texts; where some are held back, loss and perplexity on them and what frequencies alone give.

    Text tasks are exercises with a prompt, not language as it comes: `text_val_loss` leaves them out.
    """
    figures: Figures = {"text_documents": len(store.validation), "text_tokens": int(store.offsets[-1])}
    if "text" in losses:
        loss, unigram = losses["text"], store.unigram_loss(vocabulary)
        figures |= {
            "text_val_loss": round(loss, 6),
            "text_perplexity": round(math.exp(loss), 4),
            "text_unigram_perplexity": round(math.exp(unigram), 4),
        }
    if "text" in losses and "task" in losses:
        figures["task_val_loss"] = round(losses["task"], 6)
    return figures
