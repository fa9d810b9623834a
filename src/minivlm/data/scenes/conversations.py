"""A scene → the conversations of its rows, as the JSON text of the column `conversations`."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np

from minivlm.data.scenes.grammar import (
    CANONICAL_LONG,
    CANONICAL_SHORT,
    LONG_PROMPTS,
    SHORT_PROMPTS,
    long_description,
    question_answers,
    short_caption,
)
from minivlm.data.scenes.world import Scene

IMAGE = "<image>\n"
LONG_ALONE, QUESTIONS_ALONE = 0.55, 0.15  # shares of the sft rows; the rest has both

Rng = np.random.Generator
Pair = tuple[str, str]  # question, answer


def as_json(pairs: Iterable[Pair]) -> str:
    """Questions and answers as a list of turns {"role", "content"}; the first question brings the image mark."""
    turns = []
    for question, answer in pairs:
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps(turns, ensure_ascii=False)


def pretrain_row(scene: Scene, rng: Rng) -> str:
    """A short caption, asked for in one of several ways."""
    return as_json([(_one(SHORT_PROMPTS, rng), short_caption(scene, rng))])


def sft_row(scene: Scene, rng: Rng) -> str:
    """A long description, or three or four questions, or a description followed by one or two questions."""
    share = rng.random()
    if share < QUESTIONS_ALONE:
        return as_json(_with_image(question_answers(scene, rng, int(rng.integers(3, 5)))))
    pairs = [(_one(LONG_PROMPTS, rng), long_description(scene, rng))]
    if share >= QUESTIONS_ALONE + LONG_ALONE:
        pairs += question_answers(scene, rng, int(rng.integers(1, 3)))
    return as_json(pairs)


def heldout_rows(scene: Scene, rng: Rng) -> list[str]:
    """Caption, description, two questions: with the canonical prompts, so that figures can be compared."""
    return [
        as_json([(CANONICAL_SHORT, short_caption(scene, rng))]),
        as_json([(CANONICAL_LONG, long_description(scene, rng))]),
        as_json(_with_image(question_answers(scene, rng, 2))),
    ]


def _one(prompts: tuple[str, ...], rng: Rng) -> str:
    return prompts[int(rng.integers(len(prompts)))]


def _with_image(pairs: list[Pair]) -> list[Pair]:
    (question, answer), *others = pairs
    return [(IMAGE + question, answer), *others]
