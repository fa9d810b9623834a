"""What a training stage reports, each figure rounded to six digits: more are noise of the last bits."""

import csv
import io
from pathlib import Path
from typing import Any

from minivlm.files import write_json, write_text
from minivlm.training.result import FitResult

COLUMNS = ("step", "loss", "val_loss", "learning_rate", "grad_norm")
"""Of loss.csv; val_loss is empty where it was not computed."""


def figures(result: FitResult, trained: dict[str, int]) -> dict[str, Any]:
    """metrics.json: losses in nats a supervised token, what was seen, what was trained."""
    return {
        "train_loss": _round(result.train_loss),
        "val_loss": _round(result.val_loss),
        "steps": result.steps,
        "samples": result.samples,
        "tokens": result.tokens,
        "best_step": result.best_step,
        "trained_parameters": sum(trained.values()),
    }


def write_history(path: Path, result: FitResult) -> None:
    """loss.csv, a line for every row of the history."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in result.history:
        values = [_round(getattr(row, column)) for column in COLUMNS]
        writer.writerow(["" if value is None else value for value in values])
    write_text(path, text.getvalue())


def write_trained_parameters(path: Path, policy: str, trained: dict[str, int]) -> None:
    """trained_parameters.json: the freeze policy, and name and number of weights of all that it trains."""
    write_json(path, {"freeze": policy, "weights": sum(trained.values()), "parameters": trained})


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}") if isinstance(value, float) else value
