"""attention.json: what the words of shown captions looked at, and whether words of things look at these things.

    {"stage", "layers", "layer": the one that is shown, "grid": [rows, columns],
     "picture_share": by layer, of the attention of a shown word, what goes to the picture,
     "pointing": {"pictures", "words", "hits": by layer, "chance"} or null,
     "pictures": [{"file", "caption", "region", "words": [{"start", "end", "weights"}]}]}

`region` is the part of the picture that the vision tower sees (left, top, right, bottom, as shares); `weights` are
the patches' shares of a word's attention at `layer`, row by row. Shown is the layer that looks at pictures most.

Pointing (Zhang et al. 2016, the "pointing game"): of the words of things that held-out scenes have, the share
whose most attended patch shows such a thing; `chance` is the share of the patches that do. Attention is no
explanation of an answer (Jain and Wallace 2019): the tower mixes what patches show, and the layers above mix on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from minivlm.data.scenes.parse import known_words
from minivlm.data.scenes.world import Scene
from minivlm.evaluation.heldout import Picture
from minivlm.evaluation.questions import ShownPicture
from minivlm.generation.attention import AnswerAttention, answer_attention, seen_region

SHOWN = 6  # pictures
WORDS = 24  # of a caption
COVERED = 0.1  # of a patch: then it shows the thing
DIGITS = 4
_NUMBERS = re.compile(r"\[\s+(-?[\d.]+(?:e-?\d+)?(?:,\s+-?[\d.]+(?:e-?\d+)?)*)\s+\]")


class _Looked(NamedTuple):
    """A shown picture, the words of its caption that are kept, and the attention of its tokens."""

    file: str
    caption: str
    region: tuple[float, float, float, float]
    words: list[tuple[int, int]]
    found: AnswerAttention

    def to_json(self, layer: int) -> dict[str, Any]:
        weights = [self.found.of(*word)[layer].tolist() for word in self.words]
        return {
            "file": self.file,
            "caption": self.caption,
            "region": _rounded(self.region),
            "words": [
                {"start": start, "end": end, "weights": _rounded(shares)}
                for (start, end), shares in zip(self.words, weights, strict=True)
            ],
        }


def attention_report(
    stage: str,
    model: Any,
    processor: Any,
    shown: Sequence[ShownPicture],
    captions: Sequence[str],
    heldout: Iterable[tuple[Picture, str]],
    question: str,
) -> dict[str, Any]:
    """The content of attention.json for the model of `stage`.

    `captions` belong to `shown`; `heldout` are pictures with what the model answered to `question`. Without
    pictures, and with `why`, for a model whose attention cannot be read or whose tokens are no square of patches.
    """
    looked = []
    for picture, caption in zip(shown[:SHOWN], captions, strict=False):
        if not caption:
            continue
        image = picture.decode()
        found = answer_attention(model, processor, image, picture.questions[stage], caption)
        if found is None:
            return _none(stage, "this language model has layers without attention weights")
        if words := _words(caption, found, picture.truth is not None):
            region = seen_region(image.size, processor.image_processor)
            looked.append(_Looked(picture.file, caption, region, words, found))
    if not looked:
        return _none(stage, "no caption has a word")
    patches = looked[0].found.weights.shape[-1]
    side = math.isqrt(patches)
    if side * side != patches:
        return _none(stage, f"{patches} tokens of a picture are no square of patches")
    shares = [each.found.of(*word).sum(dim=-1).tolist() for each in looked for word in each.words]
    by_layer = [sum(column) / len(column) for column in zip(*shares, strict=True)]
    layer = by_layer.index(max(by_layer))
    return {
        "stage": stage,
        "layers": len(by_layer),
        "layer": layer + 1,
        "grid": [side, side],
        "picture_share": _rounded(by_layer),
        "pointing": pointing(model, processor, heldout, question, side),
        "pictures": [each.to_json(layer) for each in looked],
    }


def pointing(
    model: Any, processor: Any, heldout: Iterable[tuple[Picture, str]], question: str, side: int
) -> dict[str, Any] | None:
    """How often the most attended patch shows the thing that is named, by layer; None without drawn scenes."""
    pictures, hits, chances = 0, [], []
    for picture, caption in heldout:
        if picture.scene is None:
            continue
        there = {group.kind for group in picture.scene.groups}
        named = [word for word in known_words(caption) if word[2] == "kind" and word[3] in there]
        if not named:
            continue
        found = answer_attention(model, processor, picture.decode(), question, caption)
        if found is None:
            return None
        pictures += 1
        for start, end, _, kind in named:
            covered = covered_patches(picture.scene, kind, side)
            hits.append([covered[place] for place in found.of(start, end).argmax(dim=-1).tolist()])
            chances.append(sum(covered) / len(covered))
    if not hits:
        return None
    rates = [sum(column) / len(hits) for column in zip(*hits, strict=True)]
    return {
        "pictures": pictures,
        "words": len(hits),
        "hits": _rounded(rates),
        "chance": round(sum(chances) / len(chances), DIGITS),
    }


def covered_patches(scene: Scene, kind: str, side: int) -> list[bool]:
    """Which of side x side patches, row by row, a thing of this kind covers by a tenth or more (by its box)."""
    boxes = [
        item.box(kind) for i, group in enumerate(scene.groups) if group.kind == kind for item in scene.items_of(i)
    ]
    return [
        any(_overlap(box, (x / side, y / side, (x + 1) / side, (y + 1) / side)) >= COVERED for box in boxes)
        for y in range(side)
        for x in range(side)
    ]


def dump(report: dict[str, Any]) -> str:
    """The report as JSON text, each list of numbers on a line of its own."""
    text = json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False)
    return _NUMBERS.sub(lambda found: "[" + " ".join(found[1].split()) + "]", text) + "\n"


def _overlap(box: tuple[float, float, float, float], patch: tuple[float, float, float, float]) -> float:
    """The share of `patch` that lies in `box`."""
    width = min(box[2], patch[2]) - max(box[0], patch[0])
    height = min(box[3], patch[3]) - max(box[1], patch[1])
    return max(width, 0.0) * max(height, 0.0) / ((patch[2] - patch[0]) * (patch[3] - patch[1]))


def _words(caption: str, found: AnswerAttention, drawn: bool) -> list[tuple[int, int]]:
    """Places of the words to show: of a drawn scene those of its world; else, or without any, the tokens."""
    known = [(start, end) for start, end, *_ in known_words(caption)] if drawn else []
    pieces = [span for span in dict.fromkeys(found.spans) if any(c.isalnum() for c in caption[span[0] : span[1]])]
    return (known or pieces)[:WORDS]


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, DIGITS) for value in values]


def _none(stage: str, why: str) -> dict[str, Any]:
    return {"stage": stage, "pictures": [], "why": why}
