"""Values that are right one by one and impossible together, across the sections of params.yaml.

Each fault is one line that names the keys, their values and what to change. What a section can see by itself is
checked there.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from minivlm.config.section import MADE_HERE

if TYPE_CHECKING:
    from minivlm.config import Params
    from minivlm.config.base import Base
    from minivlm.config.section import Section

TRAIN_SPLITS = ("pretrain", "sft")
# A row in the template of the tokenizers made here, up to the first token that is learned: <|im_start|>, user, \n,
# picture, question, <|im_end|>, \n, <|im_start|>, assistant, \n, answer. Three special tokens and three line ends,
# which stand alone (minivlm.data.bpe), and two words.
_MARKS, _WORDS = 6, ("user", "assistant")
_SCENE_QUESTION = ("请简短地描述这幅图", "。")  # the shortest of the drawn world's pretrain rows, after a line end


def impossible(params: Params) -> Iterator[str]:
    """What is impossible in `params`, a line each; nothing when they go together."""
    yield from _splits(params)
    yield from base_faults(params.base, bool(params.base.texts))
    yield from _places(params.base)
    yield from _lengths(params)
    yield from _trained(params)
    yield from _scenes(params)


def base_faults(base: Base, with_texts: bool) -> Iterator[str]:
    """What excludes each other in the base stage; `with_texts`: whether base.texts names files."""
    origin, llm = base.llm_source, base.llm
    yield from _shapes(base)
    if with_texts and origin in ("hub", "local"):
        yield f"base.texts: nothing learns from them where the source of base.llm is {origin}"
    if origin == "train" and not with_texts and not llm.text_tasks:
        yield "base.llm.text_tasks is false and base.texts is empty: nothing to train on; change one"
    if origin == "train" and llm.batch_tokens < llm.max_position_embeddings:
        yield (
            f"base.llm: batch_tokens {llm.batch_tokens} is less than max_position_embeddings "
            f"{llm.max_position_embeddings}, the longest that a row may be"
        )
    if origin == "train" and llm.text_length and llm.text_length > llm.max_position_embeddings:
        yield (
            f"base.llm.text_length {llm.text_length} is more than max_position_embeddings "
            f"{llm.max_position_embeddings}"
        )


def _shapes(base: Base) -> Iterator[str]:
    """Parts of a model that is made here fill the whole; one that is brought has its own sizes."""
    tower, llm = base.vision_tower, base.llm
    if base.tower_source in MADE_HERE:
        yield from _multiples("base.vision_tower", tower, ("image_size", "patch_size"), ("hidden_size", "heads"))
        layer, layers = base.vision_feature_layer, tower.layers
        if not -layers - 1 <= layer <= layers:
            yield f"base.vision_feature_layer {layer} is not in {-layers - 1} to {layers}, the tower's layers"
    if base.llm_source in MADE_HERE:
        yield from _multiples("base.llm", llm, ("hidden_size", "heads"), ("heads", "key_value_heads"))
        if llm.hidden_size // llm.heads % 2:
            sizes = f"hidden_size {llm.hidden_size} over heads {llm.heads}"
            yield f"base.llm: {sizes} is odd, and rotary positions turn pairs"


def _multiples(key: str, section: Section, *pairs: tuple[str, str]) -> Iterator[str]:
    """Of each pair of names the first value has to be a multiple of the second."""
    for name, part in pairs:
        whole, size = getattr(section, name), getattr(section, part)
        if whole % size:
            yield f"{key}: {name} {whole} is no multiple of {part} {size}"


def _splits(params: Params) -> Iterator[str]:
    """Rows that are not drawn come from files that are named."""
    section = params.download
    if section.source != "scenes":
        place = section.local if section.source == "local" else section.hub
        named = {split for split in (*TRAIN_SPLITS, "heldout") if getattr(place, split) is not None}
        yield from split_faults(named, section.heldout_fraction, f"download.{section.source}")


def split_faults(named: Collection[str], heldout_fraction: float, section: str) -> Iterator[str]:
    """What is missing of the files of rows, given the splits that `section` names a file for."""
    for split in TRAIN_SPLITS:
        if split not in named:
            yield f"{section}.{split} is missing; name its file in params.yaml"
    if "heldout" not in named and not heldout_fraction:
        yield (
            f"{section}.heldout is missing; name its file in params.yaml, or set download.heldout_fraction, say "
            "0.02, to hold out that share of the training pictures"
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
    if own is not None and own.config:
        yield "base.tokenizer.pretrained.config: a tokenizer has no sizes to state; leave it out"
    if own is not None and (own.repo is None) == (own.path is None):
        yield "base.tokenizer.pretrained needs one of repo (of a hub) and path (a folder)"


def _lengths(params: Params) -> Iterator[str]:
    """A row has room for a picture and an answer, fits into a batch, and the language model has places for it."""
    longest, picture = params.tokenize.max_length, params.base.image_tokens
    text = text_beside_a_picture(params)
    if picture and longest < picture + text:
        yield (
            f"tokenize.max_length {longest} leaves no room for an answer: a picture has {picture} tokens "
            f"(vision_tower's image_size over patch_size, squared), and what stands around it {text} or more; set "
            f"it to {picture + text} at least"
        )
    for stage in TRAIN_SPLITS:
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


def text_beside_a_picture(params: Params) -> int:
    """Tokens of a row of one picture beside the picture's own, up to the first that is learned, at least.

    Of a tokenizer that is brought no more is known than that something comes before it.
    """
    if params.base.llm_source not in MADE_HERE:
        return 2
    longest, question = params.base.tokenizer.longest_token, 0
    if params.download.source == "scenes":
        question = 1 + sum(_pieces(part, longest) for part in _SCENE_QUESTION)
    return _MARKS + sum(_pieces(word, longest) for word in _WORDS) + question + 1


def _pieces(text: str, longest: int) -> int:
    """Tokens of so many bytes at most that make up a text."""
    return math.ceil(len(text.encode()) / longest)


def _trained(params: Params) -> Iterator[str]:
    """A freeze policy trains what its name says."""
    layers = params.base.decoder_layers
    for stage in TRAIN_SPLITS:
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
