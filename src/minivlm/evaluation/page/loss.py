"""The page's loss curves: each stage's loss.csv of this run, and of the last one where it differs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from minivlm.evaluation.page.charts import Curves, line_chart
from minivlm.evaluation.page.figures import STAGES
from minivlm.evaluation.page.html import card, key, panels

STEP, TRAINING, VALIDATION = "step", "loss", "val_loss"  # columns of loss.csv


@dataclass(frozen=True)
class Loss:
    """The loss of this run; `last`: of the run before it, where it differs, and `which` run that is, in words."""

    now: Curves
    last: Curves | None = None
    which: str = ""


def loss_panels(losses: Mapping[str, Loss]) -> str:
    """A chart for each stage that has been trained; empty without any."""
    return panels([_panel(stage, losses[stage]) for stage in STAGES if stage in losses])


def read_curves(text: str) -> Curves:
    """The points of a loss.csv that have a finite value; ValueError or KeyError where it is damaged."""
    rows = list(csv.DictReader(io.StringIO(text)))
    return Curves(_points(rows, TRAINING), _points(rows, VALIDATION))


def _panel(stage: str, loss: Loss) -> str:
    now, last = loss.now, loss.last
    if not now.training:
        return ""
    said = (
        f"{STAGES[stage]}: training loss from {now.training[0][1]:.3f} to {now.training[-1][1]:.3f}{_ending(now)}."
    )
    names = {f"{stage} line": "this run, training", f"{stage} dots": "this run, validation"}
    if last and last.training:
        said += f" The last run ({loss.which}) went to {last.training[-1][1]:.3f}{_ending(last)}."
        names |= {"earlier line": f"the last run ({loss.which})", "earlier dots": "the last run, validation"}
    return card(key(names) + line_chart(now, stage, said, last), STAGES[stage], escape(said))


def _ending(run: Curves) -> str:
    return f", ending at {run.validation[-1][1]:.3f} on the validation rows" if run.validation else ""


def _points(rows: Sequence[Mapping[str, str]], column: str) -> list[tuple[float, float]]:
    """(step, value) of the rows that have a finite value in the column."""
    points = [(float(row[STEP]), float(row[column])) for row in rows if row.get(column)]
    return [(step, value) for step, value in points if math.isfinite(value)]
