"""What an estimate takes for granted where nothing has been made yet: rows of a stage, tokens of a row.

Stated by the user, or else as the original has them; each says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from minivlm.config import Params
from minivlm.errors import UserError
from minivlm.paths import STAGES
from minivlm.planning.bounds import check_budget
from minivlm.planning.present import Present
from minivlm.planning.ranges import Factor
from minivlm.planning.rows import accepted_rows
from minivlm.planning.work import Lengths
from minivlm.training.cost import ORIGINAL_SCHEDULE

TEXT_TOKENS = {"pretrain": (54, 30, 100), "sft": (204, 100, 400)}
"""Tokens of a row beside its picture, low and high, where nothing is known: the original's rows have about 250 and
400 tokens, 196 of them the picture's (ORIGINAL_SCHEDULE in minivlm.training.cost)."""
ORIGINAL_DATA = "jingyaogong/minimind-v_dataset"
"""The original's data set, whose numbers of rows its README states; ORIGINAL_SCHEDULE has them."""
STATED = Factor("lengths", 0.95, 1.05, "a mean that was stated stands for a distribution: 5 %, assumed")


@dataclass(frozen=True)
class Asked:
    """What the user wants to know and what they state: rows and mean tokens of a row, by stage."""

    stages: Sequence[str] = STAGES
    rows: Mapping[str, int] = field(default_factory=dict)
    tokens: Mapping[str, float] = field(default_factory=dict)
    paper: bool = False
    device: str = "RTX 4090"  # of `paper`
    seconds: float = 15.0  # of timed steps of each stage


def stated_rows(stage: str, params: Params, present: Present, asked: Asked) -> tuple[int | None, str]:
    """Rows of a stage's data and where the figure is from, or None and why."""
    if stage in asked.rows:
        return asked.rows[stage], f"rows: --rows {stage}={asked.rows[stage]} (assumed)"
    figure = accepted_rows(stage, params, present)
    if figure.value is not None:
        return figure.value, f"rows: {figure.source}"
    if (source := getattr(params.download.hub, stage)) is not None and source.repo == ORIGINAL_DATA:
        rows = ORIGINAL_SCHEDULE[stage].rows
        return rows, f"rows: {rows:,}, as the README of {ORIGINAL_DATA} has it (assumed)"
    return None, figure.source


def fewer_rows(params: Params) -> Factor | None:
    """What validation and tokenize may leave out."""
    lost = params.validate_.max_bad_fraction + params.tokenize.max_bad_fraction
    least = 1 - min(0.5, lost)
    return Factor("rows", least, 1.0, "max_bad_fraction of validate and tokenize at most") if lost else None


def expected_lengths(stage: str, asked: Asked, patches: int, max_length: int, batch_tokens: int) -> Lengths:
    """Mean tokens of a row: stated, or the original's text beside this tower's patches.

    UserError for lengths that cannot be, or at which the stage would stop.
    """
    if max_length < patches + 2:
        raise UserError(f"tokenize.max_length {max_length} leaves no room beside a picture's {patches} tokens")
    check_budget(stage, batch_tokens, patches)
    longest = min(max_length, batch_tokens)
    name = "tokenize.max_length" if longest == max_length else f"{stage}.batch_tokens"
    if stage in asked.tokens:
        mean = asked.tokens[stage]
        if not patches + 1 < mean <= longest:
            raise UserError(
                f"--tokens {stage}={mean:g}: a row has its picture's {patches} tokens and some text, and at most "
                f"{name} {longest}"
            )
        ends = max(patches + 1, STATED.low * mean), min(longest, STATED.high * mean)
        return Lengths(mean, *ends, f"tokens: --tokens {stage}={mean:g} (assumed)")
    mean, low, high = (min(longest, patches + text) for text in TEXT_TOKENS[stage])
    return Lengths(mean, low, high, f"tokens: {mean} a row (assumed: text as long as the original's)")
