"""Whether a caption says rightly on which side things stand: the one statement about a drawing that no score has.

The evaluation pictures are laid out again from their recipe (nothing is drawn), which says where each thing is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from minivlm.data.scenes.evaluation_pictures import PICTURES
from minivlm.data.scenes.layout import arrange, stream
from minivlm.data.scenes.parse import parse_caption
from minivlm.data.scenes.positions import SIDE_WORDS, side
from minivlm.data.scenes.world import Scene


def named_sides(entry: Mapping[str, Any], stage: str) -> list[bool]:
    """For each side (左边, 中间, 右边) that a caption names of a kind of thing that is there: whether it is right.

    `entry` is one of captions.json. Empty for pictures that are not those drawn here.
    """
    scene = _scene(entry)
    if scene is None:
        return []
    told = []
    for clause in re.split("[，。；]", entry[stage]["caption"]):
        for name, word in SIDE_WORDS.items():
            if word not in clause:
                continue
            for stated in parse_caption(clause).groups:
                places = [side(scene, i) for i, group in enumerate(scene.groups) if group.kind == stated.kind]
                told += [name in places] if places else []
    return told


def _scene(entry: Mapping[str, Any]) -> Scene | None:
    """The layout of one of the twelve pictures; None for another."""
    for number, shown in enumerate(PICTURES, 1):
        if f"{number:02}-{shown.name}.jpg" == entry["file"] and shown.truth.to_json() == entry.get("scene"):
            return arrange(shown.truth, stream(0, "evaluation", number, str(shown.arrangement)))
    return None
