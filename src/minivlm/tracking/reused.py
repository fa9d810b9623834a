"""What a reproduction shows of its stages: of those that ran, and of those that DVC skipped.

Nothing that the skipped ones depend on has changed, so what they left is this reproduction's too. Of both kinds it
is what is in reports/, so that two reproductions have the same figures to be compared by; what a stage took, and
how fast it was, its own run has, since that differs from run to run.
"""

from __future__ import annotations

import contextlib
import csv
import math
from collections.abc import Iterator, Sequence
from typing import Any

from minivlm.files import read_json
from minivlm.paths import Paths
from minivlm.tracking.facts import content_digest, flatten

CURVES = ("loss", "val_loss")
"""Of what a training tells step by step, that which its reproduction shows too."""
_DIGITS = 6  # of figures in reports/

_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)  # not there, or not as it was written


def figures(stages: Sequence[str], paths: Paths) -> dict[str, dict[str, float]]:
    """The results of stages in reports/<stage>/metrics.json, the last stage first: what readers look for."""
    found = {}
    for stage in reversed(stages):
        with contextlib.suppress(*_UNREADABLE):
            values = flatten(read_json(paths.reports(stage) / "metrics.json"))
            found[stage] = {key: value for key, value in values.items() if _is_number(value)}
    return found


def curves(stages: Sequence[str], paths: Paths) -> Iterator[tuple[int, dict[str, float]]]:
    """Step and, by `<stage>.<name>`, CURVES in reports/<stage>/loss.csv of each of the stages."""
    for stage in reversed(stages):
        file = paths.reports(stage) / "loss.csv"
        with contextlib.suppress(*_UNREADABLE), file.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                yield int(row["step"]), {f"{stage}.{key}": float(row[key]) for key in CURVES if row.get(key)}


def as_reported(figure: float) -> float:
    """With the digits that loss.csv has: a curve is then the same whether its stage ran or was skipped."""
    return float(f"{figure:.{_DIGITS}g}")


def outputs(stages: Sequence[str], paths: Paths) -> dict[str, str]:
    """A digest of what each of the stages has left in artifacts/."""
    found = {stage: output(stage, paths) for stage in stages}
    return {stage: digest for stage, digest in found.items() if digest}


def output(stage: str, paths: Paths) -> str:
    """A digest of what `stage` has left in artifacts/; "" where there is nothing that can be read."""
    folder = paths.artifacts(stage)
    try:
        return content_digest(folder) if folder.is_dir() else ""
    except OSError:
        return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
