"""Questions about a scene with true answers: what, how many, which colour, where, yes or no, sky and ground."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minivlm.data.scenes.grammar import listing, phrase, pick, place_of
from minivlm.data.scenes.lexicon import COLOUR_WORDS, DIGITS, GROUND_WORDS, KIND_WORDS, SKY_WORDS
from minivlm.data.scenes.world import KINDS, NUMBERS, Group, Scene

Rng = np.random.Generator
Turn = tuple[str, str]  # question, answer


def questions(scene: Scene, count: int, rng: Rng) -> list[Turn]:
    """`count` different questions with their answers; no two of one sort about the same thing (count <= 6)."""
    asked: dict[tuple[str, str], Turn] = {}
    while len(asked) < count:
        sort = pick(rng, tuple(_SORTS))
        index = int(rng.integers(len(scene.groups)))
        about = str(index) if sort in _OF_A_GROUP else ""
        if (sort, about) not in asked:
            asked[sort, about] = _SORTS[sort](scene, index, rng)
    return list(asked.values())


def _said(group: Group) -> tuple[str, str, str, str]:
    """Name, measure word, number and colour of a group in Chinese."""
    assert group.kind and group.number and group.colour
    words = KIND_WORDS[group.kind]
    return words.nouns[0], words.measure, DIGITS[group.number], COLOUR_WORDS[group.colour]


def _absent(scene: Scene, rng: Rng) -> str:
    """A kind that the picture does not show."""
    shown = {group.kind for group in scene.groups}
    return pick(rng, [kind for kind in KINDS if kind not in shown])


def _what(scene: Scene, index: int, rng: Rng) -> Turn:
    things = listing([phrase(rng, group) for group in scene.groups])
    question = pick(rng, ("图中有什么？", "你在画面中看到了什么？", "图片里有哪些东西？"))
    return question, pick(rng, ("图中有{things}。", "画面中可以看到{things}。", "有{things}。")).format(things=things)


def _how_many(scene: Scene, index: int, rng: Rng) -> Turn:
    name, measure, number, _ = _said(scene.groups[index])
    question = pick(rng, ("图中有几{m}{n}？", "画面里一共有多少{m}{n}？", "请数一数有几{m}{n}。")).format(m=measure, n=name)
    answer = pick(rng, ("图中有{k}{m}{n}。", "一共有{k}{m}{n}。", "有{k}{m}{n}。"))
    return question, answer.format(k=number, m=measure, n=name)


def _which_colour(scene: Scene, index: int, rng: Rng) -> Turn:
    name, _, _, colour = _said(scene.groups[index])
    question = pick(rng, ("{n}是什么颜色的？", "图中的{n}是什么颜色？", "画面里的{n}呈现什么颜色？")).format(n=name)
    return question, pick(rng, ("{n}是{c}的。", "图中的{n}是{c}的。", "是{c}的{n}。")).format(n=name, c=colour)


def _where(scene: Scene, index: int, rng: Rng) -> Turn:
    name = _said(scene.groups[index])[0]
    question = pick(rng, ("{n}在哪里？", "{n}位于画面的什么位置？", "图中的{n}在什么地方？")).format(n=name)
    return question, f"{name}在{place_of(scene, index, rng, named=rng.random() < 0.5)}。"


def _is_colour(scene: Scene, index: int, rng: Rng) -> Turn:
    group = scene.groups[index]
    name, _, _, colour = _said(group)
    asked = colour
    if rng.random() < 0.5:
        asked = COLOUR_WORDS[pick(rng, [c for c in KINDS[str(group.kind)].colours if c != group.colour])]
    question = pick(rng, ("{n}是{c}的吗？", "图中的{n}是不是{c}的？")).format(n=name, c=asked)
    return question, f"{'是的' if asked == colour else '不是'}，{name}是{colour}的。"


def _is_number(scene: Scene, index: int, rng: Rng) -> Turn:
    group = scene.groups[index]
    name, measure, number, _ = _said(group)
    asked = number
    if rng.random() < 0.5:
        asked = DIGITS[int(pick(rng, [str(n) for n in NUMBERS if n != group.number]))]
    question = pick(rng, ("图中有{k}{m}{n}吗？", "画面里的{n}是{k}{m}吗？")).format(k=asked, m=measure, n=name)
    return question, f"{'是的' if asked == number else '不是'}，图中有{number}{measure}{name}。"


def _is_there(scene: Scene, index: int, rng: Rng) -> Turn:
    frame = pick(rng, ("图中有{n}吗？", "画面中能看到{n}吗？", "图片里有没有{n}？"))
    if rng.random() < 0.5:
        name = KIND_WORDS[_absent(scene, rng)].nouns[0]
        return frame.format(n=name), f"没有，图中没有{name}。"
    group = scene.groups[index]
    return frame.format(n=_said(group)[0]), f"有，图中有{phrase(rng, group)}。"


def _sky(scene: Scene, index: int, rng: Rng) -> Turn:
    question = pick(rng, ("天空是什么样的？", "画面中是什么天气或时间？", "图中的天空看起来怎么样？"))
    return question, pick(rng, SKY_WORDS[scene.sky].answers)


def _ground(scene: Scene, index: int, rng: Rng) -> Turn:
    question = pick(rng, ("画面的下方是什么？", "这是在什么地方？", "图中的地面是什么样的？"))
    return question, pick(rng, GROUND_WORDS[scene.ground].answers)


_SORTS: dict[str, Callable[[Scene, int, Rng], Turn]] = {
    "what": _what,
    "how many": _how_many,
    "which colour": _which_colour,
    "where": _where,
    "is colour": _is_colour,
    "is number": _is_number,
    "is there": _is_there,
    "sky": _sky,
    "ground": _ground,
}
_OF_A_GROUP = ("how many", "which colour", "where", "is colour", "is number")
