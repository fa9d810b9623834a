"""The twelve pictures of the results table: chosen scenes, drawn large, with the questions they are shown with.

`python -m minivlm.data.scenes.evaluation_pictures data` draws them anew; then `dvc commit data.dvc`. They live in
git, so that every model, whatever its parameters, is shown the same ones.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

from minivlm.data.scenes.conversations import IMAGE
from minivlm.data.scenes.draw import encode, render
from minivlm.data.scenes.grammar import CANONICAL_LONG, CANONICAL_SHORT
from minivlm.data.scenes.layout import arrange, stream
from minivlm.data.scenes.world import Group, Truth
from minivlm.files import atomic_path, write_json

SIZE, QUALITY = 384, 90


class Shown(NamedTuple):
    """One picture: file name, Chinese title, what it shows, and which of its arrangements looks best."""

    name: str
    title: str
    truth: Truth
    arrangement: int


def _shown(name: str, title: str, arrangement: int, sky: str, ground: str, *groups: tuple[int, str, str]) -> Shown:
    things = tuple(Group(kind, number, colour) for number, colour, kind in groups)
    return Shown(name, title, Truth(sky, ground, things), arrangement)


# The first three are the subjects of the original's table: a sunset, clouds, a bird.
PICTURES: tuple[Shown, ...] = (
    _shown("sunset", "海上日落", 6, "sunset", "sea", (1, "white", "boat")),
    _shown("clouds", "蓝天白云", 4, "day", "grass", (3, "white", "cloud")),
    _shown("bird", "一只飞鸟", 3, "day", "sea", (1, "white", "bird")),
    _shown("boats", "雪山与红帆", 2, "day", "sea", (3, "red", "boat"), (1, "white", "mountain")),
    _shown("snow-houses", "雪夜小屋", 3, "night", "snow", (2, "yellow", "house"), (1, "blue", "mountain")),
    _shown("balloons", "麦田上的热气球", 3, "day", "wheat", (3, "red", "balloon")),
    _shown("night-beach", "夜晚的海滩", 7, "night", "beach", (2, "white", "boat"), (1, "purple", "mountain")),
    _shown("rain", "雨中的伞", 3, "rain", "grass", (3, "yellow", "umbrella"), (2, "red", "bird")),
    _shown("harvest", "夕阳下的麦田", 3, "sunset", "wheat", (2, "red", "tree"), (3, "white", "bird")),
    _shown("kites", "草原上的风筝", 5, "day", "grass", (2, "purple", "kite"), (4, "red", "flower")),
    _shown("beach", "夏日海滩", 7, "day", "beach", (2, "purple", "umbrella"), (1, "blue", "boat")),
    _shown("village", "阴天的山村", 6, "overcast", "grass", (2, "blue", "mountain"), (2, "white", "house")),
)


def write_evaluation_pictures(folder: Path) -> None:
    """Write `folder`/eval_images/NN-name.jpg and `folder`/questions.json; other files stay."""
    question = {"pretrain": CANONICAL_SHORT.removeprefix(IMAGE), "sft": CANONICAL_LONG.removeprefix(IMAGE)}
    entries: list[dict[str, Any]] = []
    for number, shown in enumerate(PICTURES, 1):
        scene = arrange(shown.truth, stream(0, "evaluation", number, str(shown.arrangement)))
        assert scene is not None, shown.name
        file = f"{number:02}-{shown.name}.jpg"
        with atomic_path(folder / "eval_images" / file) as path:
            path.write_bytes(encode(render(scene, SIZE), QUALITY))
        entries.append({"file": file, "title": shown.title, "question": question, "scene": shown.truth.to_json()})
    write_json(folder / "questions.json", entries)


if __name__ == "__main__":
    write_evaluation_pictures(Path(sys.argv[1]))
