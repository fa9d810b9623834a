"""Questions about a scene with their answers; every answer is true, and yes and no come equally often."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minivlm.data.scenes.lexicon import (
    COLOUR_WORDS,
    GROUND_WORDS,
    KIND_WORDS,
    SKY_WORDS,
    count_words,
    group_words,
    joined,
    pick,
)
from minivlm.data.scenes.positions import in_reading_order, place, surface_of
from minivlm.data.scenes.world import KINDS, SKIES, Scene

Pair = tuple[str, str]


def question_answers(scene: Scene, rng: np.random.Generator, turns: int) -> list[Pair]:
    """`turns` pairs of question and answer about different matters (fewer where the scene offers fewer)."""
    groups = range(len(scene.groups))
    topics: list[Callable[[], Pair]] = [
        lambda: _what(scene, rng),
        lambda: _is_there(scene, rng),
        lambda: _when(scene, rng),
        lambda: _is_sky(scene, rng),
        lambda: _ground(scene, rng),
        *((lambda g=g: _how_many(scene, g, rng)) for g in groups),
        *((lambda g=g: _colour(scene, g, rng)) for g in groups),
        *((lambda g=g: _where(scene, g, rng)) for g in groups),
    ]
    chosen: list[int] = rng.permutation(len(topics))[:turns].tolist()
    # What there is comes first: the other questions presuppose it. `sorted` keeps their random order.
    return [topics[i]() for i in sorted(chosen, key=lambda i: min(i, 2))]


def _noun(scene: Scene, group: int) -> str:
    return KIND_WORDS[str(scene.groups[group].kind)].nouns[0]


def _what(scene: Scene, rng: np.random.Generator) -> Pair:
    question = pick(rng, ("图中有什么？", "画面里有哪些东西？", "你看到了什么？"))
    return question, f"图中有{joined([group_words(scene.groups[i], rng) for i in in_reading_order(scene)])}。"


def _how_many(scene: Scene, group: int, rng: np.random.Generator) -> Pair:
    about, noun = scene.groups[group], _noun(scene, group)
    measure, count = KIND_WORDS[str(about.kind)].measure, count_words(about)
    question = pick(rng, (f"图中有几{measure}{noun}？", f"一共有几{measure}{noun}？"))
    return question, pick(rng, (f"{count}。", f"有{count}{noun}。"))


def _colour(scene: Scene, group: int, rng: np.random.Generator) -> Pair:
    """An open question about the colour, or one to be answered with yes or no."""
    noun, about = _noun(scene, group), scene.groups[group]
    colour = COLOUR_WORDS[str(about.colour)]
    form = rng.random()
    if form < 0.5:
        return pick(rng, (f"{noun}是什么颜色的？", f"图中的{noun}是什么颜色？")), f"{noun}是{colour}色的。"
    if form < 0.75:
        return f"{noun}是{colour}色的吗？", f"是的，{noun}是{colour}色的。"
    others = [COLOUR_WORDS[c] for c in KINDS[str(about.kind)].colours if c != about.colour]
    return f"{noun}是{pick(rng, others)}色的吗？", f"不是，{noun}是{colour}色的。"


def _where(scene: Scene, group: int, rng: np.random.Generator) -> Pair:
    words = GROUND_WORDS[scene.ground]
    spot = place(scene, group, surface_of(scene, group, words.names[0]), words.on)
    return pick(rng, (f"{_noun(scene, group)}在哪里？", f"{_noun(scene, group)}在画面的什么位置？")), f"在{spot}。"


def _is_there(scene: Scene, rng: np.random.Generator) -> Pair:
    if rng.random() < 0.5:
        group = int(rng.integers(len(scene.groups)))
        question = f"图中有{_noun(scene, group)}吗？"
        return question, f"有，图中有{group_words(scene.groups[group], rng)}。"
    present = {g.kind for g in scene.groups}
    # Only what could be there: "is there a house" is too easy on the open sea.
    absent = [k for k, kind in KINDS.items() if k not in present and scene.ground in kind.grounds]
    noun = KIND_WORDS[pick(rng, absent)].nouns[0]
    return f"图中有{noun}吗？", f"没有，图中没有{noun}。"


def _when(scene: Scene, rng: np.random.Generator) -> Pair:
    question = pick(rng, ("天空是什么样的？", "这是什么时候，什么天气？"))
    answer = SKY_WORDS[scene.sky].answer
    return question, f"{pick(rng, SKY_WORDS[scene.sky].mood)}，是{answer}。"


def _is_sky(scene: Scene, rng: np.random.Generator) -> Pair:
    answer = SKY_WORDS[scene.sky].answer
    if rng.random() < 0.5:
        return SKY_WORDS[scene.sky].asked, f"是的，是{answer}。"
    other = pick(rng, [s for s in SKIES if s != scene.sky])
    return SKY_WORDS[other].asked, f"不是，是{answer}。"


def _ground(scene: Scene, rng: np.random.Generator) -> Pair:
    question = pick(rng, ("这是什么地方？", "画面下方是什么？", "图中是什么地方？"))
    return question, f"是{pick(rng, GROUND_WORDS[scene.ground].names)}。"
