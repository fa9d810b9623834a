"""What a Chinese text claims that a picture shows: text → `Truth`, with None where the text is silent.

It reads the captions and descriptions of `grammar` exactly, and the imperfect sentences of a model as a reader
would: partial statements stay partial, what is said twice counts once, and contradictions are not smoothed over. A
text that names two skies or two grounds claims neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from minivlm.data.scenes.lexicon import KIND_WORDS
from minivlm.data.scenes.world import Group, Truth

# The longest word wins at each position, so 海边 is a beach, 雪山 a mountain and 雨伞 an umbrella.
_SKY: dict[str, str] = {
    "sunset": "日落 夕阳 傍晚 黄昏 落日 晚霞 太阳正落 夕照 余晖",
    "day": "晴天 晴空 晴朗 蓝天 阳光 白天 白昼 湛蓝的天空 蓝色的天空 晴",
    "night": "夜晚 夜空 夜里 夜色 夜幕 星空 星光 月亮 月光 星星 晚上 深夜 黑夜 夜",
    "overcast": "阴天 阴沉 阴云 乌云 多云 天色灰暗 灰暗 灰蒙蒙 看不到太阳 看不到一点阳光 没有阳光 没有太阳",
    "rain": "下雨天 下雨 雨天 细雨 雨中 雨丝 雨水 雨滴 大雨 小雨 下着雨 雨",
}
_GROUND: dict[str, str] = {
    "sea": "海面 大海 海上 海洋 海",
    "beach": "沙滩 海滩 沙地 海边 海岸",
    "grass": "草地 草原 草坪 草丛 草",
    "snow": "雪地 雪原 白雪 积雪 雪",
    "wheat": "麦田 麦地 麦浪 麦穗 麦子",
}
_KIND: dict[str, str] = {
    "bird": "鸟 小鸟 鸟儿 飞鸟 海鸟 海鸥 大雁 鸟类",
    "cloud": "云 云彩 云朵 云层",
    "balloon": "热气球 气球",
    "kite": "风筝",
    "mountain": "山 山峰 大山 高山 雪山 小山 山脉 山丘",
    "boat": "帆船 小船 船只 小帆船 轮船 渔船 船",
    "house": "房子 小屋 房屋 屋子 小房子 木屋",
    "tree": "树 大树 小树 树木",
    "car": "汽车 小汽车 轿车 小车 车子 车",
    "flower": "花 小花 花朵 鲜花 花儿",
    "umbrella": "伞 大伞 雨伞 遮阳伞 太阳伞 沙滩伞 小伞",
}
_COLOUR: dict[str, str] = {
    "red": "红 火红 鲜红 大红",
    "yellow": "黄 金黄 金色",
    "blue": "蓝 天蓝 湛蓝 深蓝 浅蓝 蔚蓝",
    "green": "绿 翠绿 碧绿 嫩绿",
    "white": "白 雪白 洁白",
    "purple": "紫",
    # No thing has these, so to state one is a mistake, not silence.
    "black": "黑",
    "grey": "灰",
    "orange": "橙 橘 橙红 橙黄 橘红",
    "pink": "粉 粉红",
    "brown": "棕 褐",
}
# Places without a claim, and words that only look as if they held one of the above.
_NEUTRAL = "天空 天上 空中 水面 海水 海浪 浪花 雪花 地面 山坡 山脚 开花 花园 风车 车轮 草叶 阴影 黑暗"
_DIGITS = {"一": 1, "二": 2, "两": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9, "十": 10}
_MEASURES = "".join(sorted({words.measure for words in KIND_WORDS.values()})) + "条间栋幢片顶架株颗束匹部台"
# A measure word said twice counts nothing: 一朵朵白云.
_NUMBER = re.compile(rf"([{''.join(_DIGITS)}]|\d+)([{_MEASURES}])(?!\2)")
_STOP = re.compile(r"[。，,；;、！!？?\n]|和|还有|以及")
# Between an attribute and the ground or sky that it belongs to stands nothing but a short epithet: 一片金色的麦田.
_EPITHET = re.compile(r"色?的?(?:\S{1,3}的)?")
_SAID_OF = re.compile(r"[，,。]?(?:它们?|全部|全|都|也)*(?:是|为|呈)$")
_DENIED = re.compile(r"(?:没有|看不到|看不见|不见|并无)[^。，,；;！!？?]{0,6}$")


def _words() -> dict[str, tuple[str, str]]:
    """Every known word with what it speaks of and its English key."""
    tables = {"sky": _SKY, "ground": _GROUND, "kind": _KIND, "colour": _COLOUR}
    found = {word: (what, key) for what, table in tables.items() for key in table for word in table[key].split()}
    return found | {word: ("neutral", "") for word in _NEUTRAL.split()}


_WORDS = _words()
_TOKEN = re.compile("|".join(sorted(map(re.escape, _WORDS), key=lambda word: (-len(word), word))))


@dataclass
class _Claims:
    """What has been read so far; `number` and `colour` wait, with the place where they end, for their noun."""

    places: dict[str, set[str]] = field(default_factory=lambda: {"sky": set(), "ground": set()})
    groups: list[Group] = field(default_factory=list)
    number: tuple[int, int] | None = None
    colour: tuple[str, int] | None = None
    kind_end: int = 0


def parse_caption(text: str) -> Truth:
    """The claims of a text; a kind named twice is one group where the statements agree, else two."""
    text = re.sub(r"\s+", "", text)
    claims = _Claims()
    at = 0
    while at < len(text):
        if number := _NUMBER.match(text, at):
            digits = number.group(1)
            claims.number, claims.colour = (_DIGITS.get(digits) or int(digits), number.end()), None
            at = number.end()
        elif token := _TOKEN.match(text, at):
            _read(claims, *_WORDS[token.group()], text, at, token.end())
            at = token.end()
        elif stop := _STOP.match(text, at):
            claims.number = claims.colour = None
            at = stop.end()
        else:
            at += 1
    sky, ground = (next(iter(found)) if len(found) == 1 else None for found in claims.places.values())
    return Truth(sky, ground, merge_groups(claims.groups))


def known_words(text: str) -> Iterator[tuple[int, int, str, str]]:
    """(start, end, what it speaks of, English key) of every word of sky, ground, kind or colour, in order."""
    for token in _TOKEN.finditer(text):
        what, key = _WORDS[token.group()]
        if what != "neutral":
            yield token.start(), token.end(), what, key


def _read(claims: _Claims, what: str, key: str, text: str, start: int, end: int) -> None:
    """Take in one word, `text[start:end]`."""
    if what in ("sky", "ground", "neutral"):
        if what != "neutral" and not _DENIED.search(text[:start]):
            claims.places[what].add(key)
        for name in ("number", "colour"):
            waiting = getattr(claims, name)
            if waiting and _EPITHET.fullmatch(text, waiting[1], start):
                setattr(claims, name, None)
    elif what == "colour":
        if claims.groups and _SAID_OF.fullmatch(text, claims.kind_end, start):
            claims.groups.append(Group(claims.groups[-1].kind, None, key))
        else:
            claims.colour = (key, end)
    elif what == "kind":
        if not _DENIED.search(text[:start]):
            number, colour = claims.number, claims.colour
            claims.groups.append(Group(key, number[0] if number else None, colour[0] if colour else None))
            claims.kind_end = end
        claims.number = claims.colour = None


def merge_groups(groups: list[Group]) -> tuple[Group, ...]:
    """Statements that can be about the same group become one; the order is that of first mention."""
    merged: list[Group] = []
    for group in groups:
        for i, other in enumerate(merged):
            if group.kind == other.kind and all(
                a is None or b is None or a == b
                for a, b in ((group.number, other.number), (group.colour, other.colour))
            ):
                merged[i] = replace(
                    other, number=other.number or group.number, colour=other.colour or group.colour
                )
                break
        else:
            merged.append(group)
    return tuple(merged)
