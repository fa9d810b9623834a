"""The plan of the base stage: where tokenizer, vision tower and language model come from, and what that takes."""

from __future__ import annotations

from typing import Any

from minivlm import hardware
from minivlm.config import Params
from minivlm.config.base import Pretrained
from minivlm.device import resolve_device
from minivlm.planning.bounds import most_batches
from minivlm.planning.figures import Figure, disk, memory, size, total, unknown
from minivlm.planning.memory import LIBRARIES, feed_forward, key_width
from minivlm.planning.models import FoundConfig, image_tokens, llm_config, tower_config, vocabulary, weights
from minivlm.planning.present import Present
from minivlm.planning.rows import accepted_rows, count_lines, missing_bytes

_FILES = 16 << 20  # tokenizer, configurations, reports
_PICTURE_CACHE = 1 << 30  # minivlm.data.pairs keeps so many decoded bytes at most


def base(params: Params, present: Present) -> dict[str, Any]:
    """Sources, weights, steps and tokens of each part; bytes to fetch; memory and disk."""
    section = params.base
    tower, llm = tower_config(params, present), llm_config(params, present)
    rows = {split: accepted_rows(split, params, present) for split in ("pretrain", "sft")}
    entry: dict[str, Any] = {
        "rows": {split: figure.fields("rows") for split, figure in rows.items()},
        "tokenizer": {"source": section.llm_source, **vocabulary(params, present).fields("tokens")},
        "vision_tower": {"source": section.tower_source, **image_tokens(tower).fields("image_tokens")},
        "language_model": {"source": section.llm_source},
        "device": hardware.device_name(resolve_device(params.runtime.device)),
    }
    if section.tower_source == "train":
        entry["vision_tower"] |= _tower_steps(params, rows["pretrain"])
    if section.llm_source == "train":
        entry["language_model"] |= _llm_steps(params, rows, present)
    brought = {key: part for key, part in _brought(params).items() if part is not None}
    fetched = Figure(0, "no part is in a hub")
    if hub := {key: part for key, part in brought.items() if part.repo is not None}:
        fetched = missing_bytes(hub, "model")
    entry["fetch"] = None if fetched.value is None else size(fetched.value)
    entry["fetch_why" if fetched.value is None else "fetch_from"] = fetched.source
    if tower.config is None or llm.config is None:
        why = tower.source if tower.config is None else llm.source
        figure = unknown(why)
        return entry | {"memory": None, "memory_why": why, "disk": disk(figure, present.paths.artifacts("base"))}
    counted = weights(tower.config, llm.config, section.vision_feature_layer, "projector")
    entry["vision_tower"] |= {"parameters": counted.vision_tower, "parameters_from": tower.source}
    exact = vocabulary(params, present).exact
    entry["language_model"] |= Figure(counted.language_model, llm.source, exact).fields("parameters")
    both = counted.vision_tower + counted.language_model
    entry["memory"] = memory(_memory(params, tower, llm, both, rows), hardware.memory_bytes())
    needed = total({"models": Figure(4 * both + _FILES, "4 bytes a weight"), "fetched": fetched})
    return entry | {"disk": disk(needed, present.paths.artifacts("base"))}


def _tower_steps(params: Params, rows: Figure) -> dict[str, Any]:
    section = params.base.vision_tower
    source = f"{rows.source}; rows x epochs / batch_size"

    def most(count: int) -> int:
        return max(1, int(section.epochs * (count // max(1, min(section.batch_size, count)))))

    steps = rows.map(most, source, exact=False)
    return {"epochs": section.epochs, **steps.fields("steps")}


def _llm_steps(params: Params, rows: dict[str, Figure], present: Present) -> dict[str, Any]:
    section, counted = params.base.llm, total(rows)
    if params.base.texts:
        root = present.paths.root
        lines = {text.path: count_lines(root / text.path, text.limit, present) for text in params.base.texts}
        why = "packed texts: their tokens are known once the tokenizer is there"
        texts = {"texts": {path: figure.fields("lines") for path, figure in lines.items()}}
        return {"epochs": section.epochs, **texts, **unknown(why).fields("steps"), **unknown(why).fields("tokens")}
    longest = section.max_position_embeddings
    source = f"{counted.source}; rows x epochs, of max_position_embeddings {longest:,}"

    def seen(count: int) -> int:
        return max(1, round(min(1.0, section.epochs) * count))

    def most(count: int) -> int:
        return max(1, int(max(1.0, section.epochs) * most_batches(seen(count), longest, section.batch_tokens)))

    steps = counted.map(most, source, exact=False)
    tokens = steps.map(lambda count: count * section.batch_tokens, source, exact=False)
    return {"epochs": section.epochs, **steps.fields("steps"), **tokens.fields("tokens")}


def _brought(params: Params) -> dict[str, Pretrained | None]:
    """Parameter → what is brought along, not made here."""
    section = params.base
    found: dict[str, Pretrained | None] = {}
    if section.tower_source in ("hub", "local"):
        found["base.vision_tower.pretrained"] = section.vision_tower.pretrained
    if section.llm_source in ("hub", "local"):
        found["base.llm.pretrained"] = section.llm.pretrained
        found["base.tokenizer.pretrained"] = section.tokenizer.pretrained
    return found


def _memory(
    params: Params, tower: FoundConfig, llm: FoundConfig, both: int, rows: dict[str, Figure]
) -> dict[str, int]:
    """Bytes at most: weights twice while they are read and written, and what training takes of the two.

    On a CPU both may be trained side by side, in two processes. A layer of the tower keeps about what one of the
    language model does (minivlm.planning.memory), counted in fp32.
    """
    section = params.base
    amounts = {"weights": 8 * both, "libraries": LIBRARIES}
    if section.tower_source == "train":
        config, wanted = tower.config, section.vision_tower
        tokens = wanted.batch_size * ((config.image_size // config.patch_size) ** 2 + 1)
        layer = 16 * config.hidden_size + 4 * (10 * config.hidden_size + 4 * config.intermediate_size)
        text = wanted.batch_size * 128 * (wanted.text_layers + 1)  # captions of up to 128 tokens
        phrases = tokens * wanted.phrases * 12
        amounts["vision_tower_training"] = (tokens * (config.num_hidden_layers + 1) + text) * layer + phrases
        pictures = rows["pretrain"].value or 0
        amounts["decoded_pictures"] = min(_PICTURE_CACHE, 3 * config.image_size**2 * pictures)
    if section.llm_source == "train":
        config = llm.config
        layer = 16 * config.hidden_size + 4 * (
            8 * config.hidden_size + 2 * key_width(config) + 4 * feed_forward(config)
        )
        tokens = section.llm.batch_tokens
        amounts["language_model_training"] = tokens * (
            (config.num_hidden_layers + 1) * layer + 20 * config.vocab_size
        )
        amounts["second_process"] = LIBRARIES
    if "train" in (section.tower_source, section.llm_source):
        amounts["gradients_and_optimizer"] = 20 * both
    return amounts
