"""Which version of the registered model is `champion`: the rule, and nothing else.

The alias moves to a version whose figure is higher than the present champion's, of the same name and over the same
held-out pictures. What cannot be compared moves nothing: a trial on other pictures never replaces what is served.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

ALIAS = "champion"
FIGURES = ("attribute_recall", "cider")  # what models are judged by: the first that a model has
ROWS_TAG = "heldout"


class Score(NamedTuple):
    """A figure of `FIGURES` and the digest of the held-out pictures, references and truths that it is over."""

    figure: str
    value: float
    rows: str

    def tags(self) -> dict[str, str]:
        """As a version carries it; `score_of` reads it."""
        return {self.figure: repr(self.value), ROWS_TAG: self.rows}


def score_of(tags: Mapping[str, str]) -> Score | None:
    """The score that a version's tags tell; None where they tell none."""
    for figure in FIGURES:
        try:
            value = float(tags[figure])
        except (KeyError, ValueError):
            continue
        return Score(figure, value, tags.get(ROWS_TAG, "")) if math.isfinite(value) else None
    return None


class Verdict(NamedTuple):
    """Whether the alias moves to the version that was judged, and why, in words."""

    moves: bool
    why: str


def judge(score: Score | None, champion: str | None, its_score: Score | None) -> Verdict:
    """Judge a version with `score` against the version `champion` with `its_score`; None: nobody has the alias."""
    if score is None:
        return Verdict(False, "not judged: it has no figure")
    if champion is None:
        return Verdict(True, "became champion: there was none")
    stays = f"version {champion} stays champion"
    if its_score is None:
        return Verdict(False, f"{stays}: it has no figure to compare with")
    if its_score.figure != score.figure:
        return Verdict(False, f"{stays}: it was judged by {its_score.figure}, this one by {score.figure}")
    if its_score.rows != score.rows:
        return Verdict(False, f"{stays}: it was judged on other held-out pictures")
    told = f"{score.figure} {score.value:g}"
    if score.value > its_score.value:
        return Verdict(True, f"became champion: {told}, version {champion} had {its_score.value:g}")
    same = "the same" if score.value == its_score.value else f"{its_score.value:g}"
    return Verdict(False, f"{stays}: {told}, it has {same}")
