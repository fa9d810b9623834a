"""A scene → the conversations of its rows, as the JSON text of the contract's column `conversations`."""

from __future__ import annotations

import json

import numpy as np

from minivlm.data.scenes.grammar import long_description, pick, short_caption
from minivlm.data.scenes.prompts import IMAGE, LONG_PROMPTS, SHORT_PROMPTS
from minivlm.data.scenes.questions import Turn, questions
from minivlm.data.scenes.world import Scene

Rng = np.random.Generator


def as_json(turns: list[Turn]) -> str:
    """(question, answer) pairs as the JSON text of a conversation: a list of {"role", "content"}."""
    messages = []
    for question, answer in turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps(messages, ensure_ascii=False)


def short_row(scene: Scene, rng: Rng) -> str:
    """A short caption: what the first stage learns from."""
    return as_json([(pick(rng, SHORT_PROMPTS), short_caption(scene, rng))])


def long_row(scene: Scene, rng: Rng, follow_ups: int = 0) -> str:
    """A long description, followed by so many questions."""
    first = (pick(rng, LONG_PROMPTS), long_description(scene, rng))
    return as_json([first, *questions(scene, follow_ups, rng)])


def question_row(scene: Scene, rng: Rng, count: int) -> str:
    """`count` questions, the first of which carries the picture."""
    (question, answer), *others = questions(scene, count, rng)
    return as_json([(IMAGE + question, answer), *others])


def sft_row(scene: Scene, rng: Rng) -> str:
    """One row of the second stage: 40 % a description, 30 % 3 or 4 questions, 30 % both."""
    share = rng.random()
    if share < 0.4:
        return long_row(scene, rng)
    if share < 0.7:
        return question_row(scene, rng, int(rng.integers(3, 5)))
    return long_row(scene, rng, follow_ups=int(rng.integers(1, 3)))


def heldout_rows(scene: Scene, rng: Rng) -> list[str]:
    """The three rows of a held-out picture: short caption, long description, two questions."""
    return [short_row(scene, rng), long_row(scene, rng), question_row(scene, rng, 2)]
