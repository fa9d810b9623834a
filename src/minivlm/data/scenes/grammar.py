"""What is said of a scene: one-sentence captions, longer descriptions, and the prompts that ask for them.

Every sentence is true of the scene. Captions and descriptions are complete: sky, ground, and each group's kind,
number and colour. Number, measure word, colour and noun of a group stand together. The same scene and the same
random stream give the same text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minivlm.data.scenes.lexicon import GROUND_WORDS, KIND_WORDS, SKY_WORDS, count_words, group_words, joined, pick
from minivlm.data.scenes.positions import TOP_DOWN, in_reading_order, is_spread, place, side, surface_of, zone
from minivlm.data.scenes.questions import question_answers
from minivlm.data.scenes.world import Scene

__all__ = [
    "CANONICAL_LONG",
    "CANONICAL_SHORT",
    "LONG_PROMPTS",
    "SHORT_PROMPTS",
    "long_description",
    "question_answers",
    "short_caption",
]

SHORT_PROMPTS: tuple[str, ...] = (
    "<image>\n请用一句话描述这张图片。",
    "<image>\n一句话说说图里有什么。",
    "<image>\n请简短地描述这幅图。",
    "<image>\n给这张图片写一句说明。",
    "<image>\n用一句话概括画面内容。",
)
LONG_PROMPTS: tuple[str, ...] = (
    "<image>\n请详细描述这张图片。",
    "<image>\n请仔细说说这幅图的内容。",
    "<image>\n详细介绍一下画面里的东西和位置。",
    "<image>\n这张图片里都有什么？请详细说明。",
    "<image>\n请完整地描述你看到的画面。",
)
CANONICAL_SHORT = SHORT_PROMPTS[0]
CANONICAL_LONG = LONG_PROMPTS[0]

SHORT_LENGTH = (12, 32)  # characters aimed at; a caption of three groups may be a few longer
LONG_LENGTH = (38, 90)

_OPENERS = ("这幅图像描绘了", "这幅图片展示了", "这张图片描绘了", "画面展现了")


def short_caption(scene: Scene, rng: np.random.Generator) -> str:
    """One sentence of about 12 to 32 characters, such as 日落时分，三只红色的鸟飞过海面."""
    tries: list[str] = []
    for _ in range(6):
        text = _single(scene, rng) if len(scene.groups) == 1 else _several(scene, rng)
        if SHORT_LENGTH[0] <= len(text) <= SHORT_LENGTH[1]:
            return text
        tries.append(text)
    return min(tries, key=lambda text: max(SHORT_LENGTH[0] - len(text), len(text) - SHORT_LENGTH[1]))


def _single(scene: Scene, rng: np.random.Generator) -> str:
    sky, ground = SKY_WORDS[scene.sky], GROUND_WORDS[scene.ground]
    words, things = KIND_WORDS[str(scene.groups[0].kind)], group_words(scene.groups[0], rng)
    name = pick(rng, ground.names)
    spot = {
        "sky": f"{name}上空",
        "horizon": f"{name}尽头",
        "water": f"{name}边" if scene.ground == "beach" else f"{name}上",
        "ground": name + ground.on,
    }[zone(scene, 0)]
    form = rng.random()
    if form < 0.5:  # 傍晚，三只红色的鸟飞过海面
        predicate = pick(rng, words.over + words.at).format(p=spot, g=name)
        return f"{pick(rng, sky.when)}，{things}{predicate}"
    there = pick(rng, words.there)
    if form < 0.75:  # 傍晚，海面上空飞着三只红色的鸟
        return f"{pick(rng, sky.when)}，{spot}{there}{things}"
    return f"{pick(rng, sky.of)}{spot}{there}{things}"


def _several(scene: Scene, rng: np.random.Generator) -> str:
    """One clause per zone; the clause nearest to the ground names the ground."""
    terse = len(scene.groups) == 3
    sky, ground = SKY_WORDS[scene.sky], GROUND_WORDS[scene.ground]
    name = pick(rng, ground.names)
    by_zone: dict[str, list[int]] = {}
    for key in TOP_DOWN:
        members = [i for i in in_reading_order(scene) if zone(scene, i) == key]
        if members:
            by_zone[key] = members
    # The lowest zone names the ground; with nothing below the horizon the sky clause may do so as well.
    carrier = list(by_zone)[-1] if "ground" in by_zone or "water" in by_zone else pick(rng, list(by_zone))
    spots = {"sky": "天上", "horizon": "远处", "water": "水上"}
    spots[carrier] = {
        "sky": f"{name}上空",
        "horizon": f"{name}尽头",
        "water": f"{name}边" if scene.ground == "beach" else f"{name}上",
        "ground": name + ground.on,
    }[carrier]
    verbless = terse and rng.random() < 0.6
    clauses = []
    for key, members in by_zone.items():
        things = joined([group_words(scene.groups[i], rng, 0.85 if terse else 0.4) for i in members])
        clauses.append(spots[key] + ("" if verbless else _verb(scene, members, rng)) + things)
    if clauses[0].startswith(name) and not terse and rng.random() < 0.5:
        return pick(rng, sky.of) + "，".join(clauses)
    return "，".join([pick(rng, sky.when[:1] if terse and rng.random() < 0.5 else sky.when), *clauses])


def _verb(scene: Scene, members: Sequence[int], rng: np.random.Generator) -> str:
    """A verb that suits all members after a place, or 有."""
    suitable = set.intersection(*(set(KIND_WORDS[str(scene.groups[i].kind)].there) for i in members))
    return pick(rng, sorted(suitable)) if suitable else "有"


def long_description(scene: Scene, rng: np.random.Generator) -> str:
    """Two to four sentences of 38 to 90 characters that also say roughly where each group is."""
    sky, ground = SKY_WORDS[scene.sky], GROUND_WORDS[scene.ground]
    name = ground.names[0]
    of = pick(rng, sky.of)
    opening = f"{pick(rng, _OPENERS)}{of}{pick(rng, ground.names)}"
    clauses: list[str] = []
    spot = ""
    for i in in_reading_order(scene):
        before, spot = spot, place(scene, i, surface_of(scene, i, name), ground.on)
        clauses.append(_located(scene, i, spot, spot == before, rng))
    body = "，".join(clauses) + "。"
    fresh = [mood for mood in sky.mood if of[:2] not in mood]
    extras = [pick(rng, fresh or sky.mood), pick(rng, ground.mood)]
    only = ""
    if len(scene.groups) == 1:
        noun = KIND_WORDS[str(scene.groups[0].kind)].nouns[0]
        only = f"除了这{count_words(scene.groups[0])}{noun}，画面里没有别的东西。"
    room = LONG_LENGTH[0] - len(opening) - len(body) - 1
    chosen: list[str] = []
    for extra in extras:
        if room > 0 or rng.random() < 0.25:
            chosen.append(extra)
            room -= len(extra) + 1
    head = "，".join([opening, *chosen]) + "。"
    text = head + body
    return text + only if only and (len(text) < LONG_LENGTH[0] or rng.random() < 0.3) else text


def _located(scene: Scene, group: int, spot: str, again: bool, rng: np.random.Generator) -> str:
    """天空左边飞着三只红色的鸟, or with the things first; `again`: the clause before was about the same spot."""
    words, things = KIND_WORDS[str(scene.groups[group].kind)], group_words(scene.groups[group], rng, 0.2)
    across = "从左到右" if side(scene, group) is None and is_spread(scene, group) else ""
    there = pick(rng, words.there)
    if again and not across:
        return f"还{there}{things}"
    if across or rng.random() < 0.6:
        return f"{spot}{across}{there}{things}"
    return things + pick(rng, words.at).format(p=spot)
