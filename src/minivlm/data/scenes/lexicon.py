"""The Chinese words of the drawn world: how each sky, ground, kind, colour and number is said.

Synonymy is moderate on purpose: two to four ways per sky, two per ground, one or two per kind and one per colour,
so that a small model spends its capacity on what the picture shows. `parse` recognises all of these words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minivlm.data.scenes.world import Group


@dataclass(frozen=True)
class SkyWords:
    """How a sky is said.

    when: opens a sentence (傍晚，……), the first being the shortest. of: stands before a place (傍晚的草地).
    mood: a clause about this sky alone. answer: the reply to a question about time or weather. asked: the
    yes-or-no question about it.
    """

    when: tuple[str, ...]
    of: tuple[str, ...]
    mood: tuple[str, ...]
    answer: str
    asked: str


@dataclass(frozen=True)
class GroundWords:
    """`names`: nouns. `on`: the particle for standing on it. `mood`: a clause about this ground alone."""

    names: tuple[str, ...]
    on: str
    mood: tuple[str, ...]


@dataclass(frozen=True)
class KindWords:
    """How a kind is counted, named and placed.

    compact: noun with the colour in short form, {c} being one character. there: verbs that follow a place
    (草地上停着). at: predicates with the place {p}. over: predicates with the ground {g} below.
    """

    measure: str
    nouns: tuple[str, ...]
    compact: tuple[str, ...]
    there: tuple[str, ...]
    at: tuple[str, ...]
    over: tuple[str, ...] = ()


NUMBER_WORDS: dict[int, str] = {1: "一", 2: "两", 3: "三", 4: "四"}
COLOUR_WORDS: dict[str, str] = {
    "red": "红",
    "yellow": "黄",
    "blue": "蓝",
    "green": "绿",
    "white": "白",
    "purple": "紫",
}

SKY_WORDS: dict[str, SkyWords] = {
    "sunset": SkyWords(
        ("傍晚", "日落时分", "夕阳下", "黄昏时"),
        ("傍晚的", "日落时分的", "夕阳下的", "黄昏时的"),
        ("夕阳正缓缓落下", "夕阳挂在地平线上", "太阳正落向地平线"),
        "日落时分",
        "现在是日落时分吗？",
    ),
    "day": SkyWords(
        ("晴天", "阳光下", "蓝天下", "晴朗的白天"),
        ("晴天的", "阳光下的", "蓝天下的"),
        ("阳光明亮", "天气晴朗"),
        "晴朗的白天",
        "现在是晴朗的白天吗？",
    ),
    "night": SkyWords(
        ("夜晚", "夜空下", "星空下", "夜里"),
        ("夜晚的", "夜空下的", "星空下的"),
        ("弯弯的月亮挂在夜空", "天上星光点点"),
        "夜晚",
        "现在是夜晚吗？",
    ),
    "overcast": SkyWords(
        ("阴天", "阴天里", "阴沉的天空下"),
        ("阴天的", "阴沉天空下的"),
        ("天色灰暗，看不到太阳", "看不到一点阳光"),
        "阴天",
        "现在是阴天吗？",
    ),
    "rain": SkyWords(
        ("雨中", "雨天里", "细雨中", "下雨天"),
        ("雨中的", "雨天的", "细雨中的"),
        ("雨丝斜斜地落下", "天上下着雨"),
        "雨天",
        "现在在下雨吗？",
    ),
}

GROUND_WORDS: dict[str, GroundWords] = {
    "sea": GroundWords(("海面", "大海"), "上", ("海面泛着波纹", "海面上波浪起伏")),
    "beach": GroundWords(("沙滩", "海滩"), "上", ("沙滩一直延伸到水边", "水波轻拍着沙滩")),
    "grass": GroundWords(("草地", "草原"), "上", ("草地平缓地铺开", "草地上草叶茂密")),
    "snow": GroundWords(("雪地", "雪原"), "上", ("雪地平缓地铺开", "雪地上积雪很厚")),
    "wheat": GroundWords(("麦田", "麦地"), "里", ("麦田一垄垄地伸向远方", "麦田里麦穗茂密")),
}

KIND_WORDS: dict[str, KindWords] = {
    "bird": KindWords("只", ("鸟", "小鸟"), ("{c}色小鸟",), ("飞着",), ("飞在{p}", "在{p}飞翔"), ("飞过{g}",)),
    "cloud": KindWords("朵", ("云", "云彩"), ("{c}云",), ("飘着",), ("飘在{p}",), ("飘过{g}",)),
    "balloon": KindWords("个", ("热气球",), ("{c}色热气球",), ("飘着",), ("飘在{p}",), ("飘过{g}",)),
    "kite": KindWords("只", ("风筝",), ("{c}色风筝",), ("飘着", "飞着"), ("飘在{p}", "在{p}飞舞")),
    "mountain": KindWords("座", ("山", "山峰"), ("{c}色山峰",), ("立着", "有"), ("立在{p}",)),
    "boat": KindWords("艘", ("帆船", "小船"), ("{c}帆船", "{c}色帆船"), ("漂着", "停着"), ("漂在{p}", "停在{p}")),
    "house": KindWords("座", ("房子", "小屋"), ("{c}房子", "{c}色小屋"), ("立着", "有"), ("立在{p}", "坐落在{p}")),
    "tree": KindWords("棵", ("树", "大树"), ("{c}色大树",), ("长着", "立着"), ("长在{p}", "立在{p}")),
    "car": KindWords("辆", ("汽车", "小汽车"), ("{c}色汽车",), ("停着",), ("停在{p}",)),
    "flower": KindWords("朵", ("花", "小花"), ("{c}花", "{c}色小花"), ("开着",), ("开在{p}",)),
    "umbrella": KindWords("把", ("伞", "大伞"), ("{c}伞", "{c}色大伞"), ("立着", "撑着"), ("立在{p}", "撑在{p}")),
}


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    """One of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def count_words(group: Group) -> str:
    """Number and measure word, such as 三只."""
    assert group.kind is not None and group.number is not None
    return NUMBER_WORDS[group.number] + KIND_WORDS[group.kind].measure


def group_words(group: Group, rng: np.random.Generator, compact: float = 0.3) -> str:
    """The whole group, such as 三只红色的鸟, or with probability `compact` its short form, 三只红色小鸟."""
    assert group.kind is not None and group.colour is not None
    words, colour = KIND_WORDS[group.kind], COLOUR_WORDS[group.colour]
    if rng.random() < compact:
        return count_words(group) + pick(rng, words.compact).format(c=colour)
    return f"{count_words(group)}{colour}色的{pick(rng, words.nouns)}"


def joined(parts: Sequence[str]) -> str:
    """甲、乙和丙."""
    return "和".join(("、".join(parts[:-1]), parts[-1])) if len(parts) > 1 else parts[0]
