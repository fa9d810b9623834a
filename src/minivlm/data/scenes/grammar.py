"""Chinese captions of a scene: one short sentence, or a description of a few sentences.

Both state everything the scene's truth holds (sky, ground, and kind, number and colour of every group), so that a
caption can be marked against it. What is said of positions is read off the layout.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minivlm.data.scenes.lexicon import COLOUR_WORDS, DIGITS, GROUND_WORDS, KIND_WORDS, SKY_WORDS
from minivlm.data.scenes.world import KINDS, Group, Scene

Rng = np.random.Generator


def pick(rng: Rng, options: Sequence[str]) -> str:
    """One of the options, each equally often."""
    return options[int(rng.integers(len(options)))]


def noun(rng: Rng, kind: str) -> str:
    """A name of the kind; the plain one more often than its synonyms."""
    names = KIND_WORDS[kind].nouns
    return names[0] if rng.random() < 0.6 else pick(rng, names)


def phrase(rng: Rng, group: Group) -> str:
    """Number, measure word, colour and name: 三只红色的鸟."""
    assert group.kind and group.number and group.colour
    link = "的" if rng.random() < 0.85 or len(noun_word := KIND_WORDS[group.kind].nouns[0]) < 2 else ""
    name = noun(rng, group.kind) if link else noun_word
    return f"{DIGITS[group.number]}{KIND_WORDS[group.kind].measure}{COLOUR_WORDS[group.colour]}{link}{name}"


def listing(phrases: Sequence[str]) -> str:
    """Phrases joined as a list: 甲、乙和丙."""
    return phrases[0] if len(phrases) == 1 else "、".join(phrases[:-1]) + "和" + phrases[-1]


def _on(ground: str, name: str, zone: str) -> str:
    """Where things of a zone are, with the name of the ground in it."""
    if zone == "sky":
        return f"{name}上空"
    if zone == "horizon":
        return f"{name}尽头"
    if zone == "water" and ground == "beach":
        return f"{name}边的水面上"
    return f"{name}{GROUND_WORDS[ground].on}"


_ELSEWHERE = {"sky": ("空中", "天上"), "horizon": ("远处", "远方"), "water": ("水面上", "水上"), "ground": ("地上", "地面上")}


def zone_of(group: Group) -> str:
    """The zone of the group's kind."""
    assert group.kind is not None
    return KINDS[group.kind].zone


def _doing(rng: Rng, ground: str, name: str, group: Group, *, place: bool) -> str:
    words = KIND_WORDS[str(group.kind)]
    if not place:
        return pick(rng, words.bare)
    on = _on(ground, name, zone_of(group))
    return pick(rng, words.at).format(ground=name, on=on, over=f"{name}上空")


def short_caption(scene: Scene, rng: Rng) -> str:
    """One sentence that states everything: 日落时分，三只红色的鸟飞过海面。 (without the full stop)"""
    sky, name = SKY_WORDS[scene.sky], pick(rng, GROUND_WORDS[scene.ground].names)
    groups = [scene.groups[i] for i in rng.permutation(len(scene.groups))]
    style = rng.random()
    if style < 0.4:
        # Each group does something; the first one says where.
        clauses = [phrase(rng, g) + _doing(rng, scene.ground, name, g, place=i == 0) for i, g in enumerate(groups)]
        return f"{pick(rng, sky.opening)}，{'，'.join(clauses)}"
    if style < 0.65 and len(groups) > 1:
        things = listing([phrase(rng, g) for g in groups])
        frame = pick(rng, ("{sky}的{ground}，有{things}", "{sky}的{ground}，画面中有{things}", "{sky}的{ground}，可以看到{things}"))
        return frame.format(sky=pick(rng, sky.before), ground=name, things=things)
    return f"{pick(rng, sky.before)}的{_by_zone(rng, scene, name, groups)}"


def _by_zone(rng: Rng, scene: Scene, name: str, groups: list[Group]) -> str:
    """One clause per zone: 草地上停着两辆红色的汽车，空中飞着一只白色的鸟."""
    clauses = []
    for zone in dict.fromkeys(map(zone_of, groups)):
        members = [g for g in groups if zone_of(g) == zone]
        exist = pick(rng, KIND_WORDS[str(members[0].kind)].exist) if len(members) == 1 else "有"
        if rng.random() < 0.25:
            exist = "有"
        place = pick(rng, _ELSEWHERE[zone]) if clauses else _on(scene.ground, name, zone)
        clauses.append(f"{place}{exist}{listing([phrase(rng, g) for g in members])}")
    return "，".join(clauses)


def side(scene: Scene, index: int) -> str | None:
    """Where all things of a group stand: "左边", "右边" or "中间"; None where no side fits all of them."""
    xs = [item.x for item in scene.items_of(index)]
    if max(xs) < 0.42:
        return "左边"
    if min(xs) > 0.58:
        return "右边"
    if min(xs) > 0.36 and max(xs) < 0.64:
        return "中间"
    return None


def spread(scene: Scene, index: int) -> bool:
    """Whether a group reaches from the left third to the right third of the picture."""
    xs = [item.x for item in scene.items_of(index)]
    return min(xs) < 0.34 and max(xs) > 0.66


def place_of(scene: Scene, index: int, rng: Rng, *, named: bool = False) -> str:
    """Where a group is: 画面左边的空中; with `named` the ground is called by its name."""
    group, zone = scene.groups[index], zone_of(scene.groups[index])
    name = pick(rng, GROUND_WORDS[scene.ground].names)
    where = _on(scene.ground, name, zone) if named else pick(rng, _ELSEWHERE[zone])
    if not named and zone == "sky":
        where = pick(rng, ("天空中", "空中"))
    at = side(scene, index)
    assert group.kind is not None
    return f"画面{at}的{where}" if at else where


def long_description(scene: Scene, rng: Rng) -> str:
    """Two to five sentences: the place, every group with its position, the mood."""
    sky, ground = SKY_WORDS[scene.sky], GROUND_WORDS[scene.ground]
    opening = pick(
        rng,
        (
            "这幅图像描绘了{sky}的{ground}。",
            "这幅图像展示了{sky}的{ground}。",
            "画面中是{sky}的{ground}。",
            "图片呈现了{sky}一片{ground}的景色。",
            "这是一幅{sky}的{ground}风景画。",
        ),
    )
    text = opening.format(sky=pick(rng, sky.before), ground=pick(rng, ground.rich))
    order = list(map(int, rng.permutation(len(scene.groups))))
    for turn, index in enumerate(order):
        text += _sentence(scene, index, rng, later=turn > 0)
    mood = pick(rng, sky.mood)
    if len(order) < 3 or rng.random() < 0.3:
        text += f"{pick(rng, ('整个画面中', '整体上', ''))}{mood}。" if "，" not in mood else f"{mood}。"
    return text


def _sentence(scene: Scene, index: int, rng: Rng, *, later: bool) -> str:
    """One group with its position; never begins with the same words twice in a row."""
    group = scene.groups[index]
    words = KIND_WORDS[str(group.kind)]
    things, place, at = phrase(rng, group), place_of(scene, index, rng), side(scene, index)
    also = pick(rng, ("此外，", "同时，", "另外，", "")) if later else ""
    if spread(scene, index):
        extent = pick(rng, ("从左到右分布在画面中", "从画面左边一直排到右边", "在画面中从左到右散开"))
        return f"{also}{place}{pick(rng, words.exist)}{things}，{extent}。"
    form = int(rng.integers(3))
    if form == 0 and at:
        pronoun = "它们" if (group.number or 0) > 1 else "它"
        return f"{also}{things}{pick(rng, words.bare)}，{pronoun}位于画面的{at}。"
    if form == 1:
        return f"{also}{place}可以看到{things}。"
    return f"{also}{place}{pick(rng, words.exist)}{things}。"
