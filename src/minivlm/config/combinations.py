"""Values that are right one by one and impossible together, across the sections of params.yaml.

Each fault is one line that names the keys, their values and what to change. What a section can see by itself is
checked there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from minivlm.config.section import MADE_HERE

if TYPE_CHECKING:
    from minivlm.config import Params
    from minivlm.config.base import Base

TEXT_BESIDE_A_PICTURE = 2  # tokens of a row: at least one to be predicted, and one to predict it from


def impossible(params: Params) -> Iterator[str]:
    """What is impossible in `params`, a line each; nothing when they go together."""
    yield from base_faults(params.base, bool(params.base.texts))
    yield from _places(params.base)
    yield from _lengths(params)
    yield from _trained(params)
    yield from _scenes(params)


def base_faults(base: Base, with_texts: bool) -> Iterator[str]:
    """What excludes each other in the base stage; `with_texts`: whether base.texts names files."""
    origin, llm = base.llm_source, base.llm
    if with_texts and origin in ("hub", "local"):
        yield f"base.texts: nothing learns from them where the source of base.llm is {origin}"
    if origin == "train" and not with_texts and not llm.text_tasks:
        yield "base.llm.text_tasks is false and base.texts is empty: nothing to train on; change one"
    if llm.text_length and llm.text_length > llm.max_position_embeddings:
        yield (
            f"base.llm.text_length {llm.text_length} is more than max_position_embeddings "
            f"{llm.max_position_embeddings}"
        )


def _places(base: Base) -> Iterator[str]:
    """Models that are brought have to have a place, and it has to be of the kind that their source says."""
    for part, origin in (("vision_tower", base.tower_source), ("llm", base.llm_source)):
        place, key = getattr(base, part).pretrained, {"hub": "repo", "local": "path"}.get(origin)
        if key is None:
            continue
        if place is None:
            yield f"base.{part}.pretrained is missing, and base.{part}.source is {origin}: name its place"
        elif getattr(place, key) is None:
            yield f"base.{part}.pretrained.{key} is missing, and base.{part}.source is {origin}"
    own = base.tokenizer.pretrained
    if own is not None and base.llm_source in MADE_HERE:
        yield f"base.tokenizer.pretrained: with base.llm.source {base.llm_source} it is trained; leave it out"
    if own is not None and (own.repo is None) == (own.path is None):
        yield "base.tokenizer.pretrained needs one of repo (of a hub) and path (a folder)"


def _lengths(params: Params) -> Iterator[str]:
    """A row has room for a picture and an answer, fits into a batch, and the language model has places for it."""
    longest, picture = params.tokenize.max_length, params.base.image_tokens
    needed = picture + TEXT_BESIDE_A_PICTURE if picture else 0
    if longest < needed:
        yield (
            f"tokenize.max_length {longest} leaves no room beside a picture's {picture} tokens (vision_tower's "
            f"image_size over patch_size, squared); set it to {needed} or more"
        )
    for stage in ("pretrain", "sft"):
        budget = params.section(stage).batch_tokens  # type: ignore[attr-defined]
        if budget < longest:
            yield (
                f"{stage}.batch_tokens {budget} is less than tokenize.max_length {longest}, the longest that a "
                f"row may be; set it to {longest} or more, or lower tokenize.max_length"
            )
    places = params.base.positions
    if places is None:
        return
    if places < longest:
        yield (
            f"tokenize.max_length {longest} is more than base.llm.max_position_embeddings {places}; lower the one "
            "or raise the other"
        )
    answer = params.evaluate.max_new_tokens
    if places < (picture or 0) + 1 + answer:
        yield (
            f"evaluate.max_new_tokens {answer} beside a picture's {picture or 0} tokens and a question exceeds "
            f"base.llm.max_position_embeddings {places}; lower the one or raise the other"
        )


def _trained(params: Params) -> Iterator[str]:
    """A freeze policy trains what its name says."""
    layers = params.base.decoder_layers
    for stage in ("pretrain", "sft"):
        policy = params.section(stage).freeze  # type: ignore[attr-defined]
        if policy == "first_last" and layers == 1:
            yield (
                f"{stage}.freeze first_last trains two layers, and base.llm has 1; set it to "
                "projector+last_layer, or base.llm.layers to 2 or more"
            )


def _scenes(params: Params) -> Iterator[str]:
    """Drawn pictures pass the gate that they go through."""
    if params.download.source != "scenes":
        return
    size, gate = params.download.scenes.size, params.validate_
    if not gate.min_side <= size <= gate.max_side:
        yield (
            f"download.scenes.size {size} is not in validate.min_side {gate.min_side} to validate.max_side "
            f"{gate.max_side}: every picture would be rejected"
        )
