"""What the tracker was told of a training, beside its states: one that goes on is one run, each step in it once.

    .state/<stage>/<key>/run             the tracker's id of the run
    .state/<stage>/<key>/points.jsonl    {"step": 40, "time": 1767225601000, "metrics": {"loss": 2.1, …}}

Steps that were told and then lost, because the process was killed before their state was saved, are computed
again, to the same numbers. What is told of them is the line written down the first time, with its time: to a
tracker that has it already that changes nothing.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.files import write_text

if TYPE_CHECKING:
    from minivlm.tracking import Run


class Logbook:
    """Called with a step and its metrics, it tells `tracker` and remembers."""

    def __init__(self, folder: Path, tracker: Run, seconds: float) -> None:
        """Take up the run of `folder`, after `seconds` of training, or note this one there."""
        folder.mkdir(parents=True, exist_ok=True)  # nothing is saved yet, and a tracker without a run notes none
        self._tracker, self._path = tracker, folder / "points.jsonl"
        noted = folder / "run"
        if earlier := noted.read_bytes().decode("ascii", "ignore") if noted.exists() else "":
            tracker.go_on(earlier, seconds)
        elif tracker.id:
            write_text(noted, tracker.id)
        self._told: set[int] = set()
        for point in _whole_lines(self._path):
            self._tell(point)

    def __call__(self, step: int, metrics: dict[str, float]) -> None:
        """Tell of a step, unless that was done before."""
        if step in self._told:
            return
        point = {"step": step, "time": time.time_ns() // 1_000_000, "metrics": metrics}
        with self._path.open("ab") as stream:
            stream.write((json.dumps(point, allow_nan=False) + "\n").encode())
        self._tell(point)

    def _tell(self, point: dict[str, Any]) -> None:
        self._told.add(point["step"])
        self._tracker.log_metrics(point["metrics"], point["step"], point["time"])


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; what a crash has left of a last one is cut off."""
    if not path.exists():
        return []
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        os.truncate(path, len(whole))
    return [point for line in whole.split(b"\n") if (point := _point(line))]


def _point(line: bytes) -> dict[str, Any] | None:
    """What a line tells of a step; None of one that a disk has damaged: the step is then told anew."""
    try:
        point = json.loads(line)
        told = {"step": int(point["step"]), "time": int(point["time"])}
        return told | {"metrics": {str(name): float(value) for name, value in point["metrics"].items()}}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
