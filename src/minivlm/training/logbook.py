"""What the tracker was told of a training, beside its states: one that goes on is one run, each step in it once.

    .state/<stage>/<key>/run             the tracker's id of the run
    .state/<stage>/<key>/points.jsonl    {"step": 40, "time": 1767225601000, "metrics": {"loss": 2.1, …}}

Steps that were told and then lost, because the process was killed before their state was saved, are computed
again, to the same numbers. What is told of them is the line written down the first time, with its time: to a
tracker that has it already that changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.files import sync, write_text

if TYPE_CHECKING:
    from minivlm.tracking import Run

    Tell = Callable[[dict[str, float], int, int], None]


_POINTS = "points.jsonl"


def take_up(folder: Path, tracker: Run, seconds: float = 0.0) -> None:
    """Let `tracker` go on with the run noted in `folder`, after `seconds` of training; else note its own there.

    Its results are remembered there too: a process that is killed before its end may have told them already.
    """
    noted = folder / "run"
    tracker.remember(folder / "results.jsonl")
    if earlier := noted.read_bytes().decode("ascii", "ignore") if noted.exists() else "":
        tracker.go_on(earlier, seconds)
    else:
        if tracker.id:
            write_text(noted, tracker.id)
        tracker.begin()


class Logbook:
    """Called with a step and its metrics, it tells of them and remembers."""

    def __init__(self, folder: Path, tell: Tell) -> None:
        """Tell again what `folder` says was told: `tell(metrics, step, time)`, milliseconds since 1970."""
        self._tell_others, self._path = tell, folder / _POINTS
        folder.mkdir(parents=True, exist_ok=True)
        self._told: set[int] = set()
        self._warned = False
        for point in _whole_lines(self._path):
            self._tell(point)

    def __call__(self, step: int, metrics: dict[str, float]) -> None:
        """Tell of a step, unless that was done before."""
        if step in self._told:
            return
        point = {"step": step, "time": time.time_ns() // 1_000_000, "metrics": metrics}
        try:
            with self._path.open("ab") as stream:
                # After a failure there may be half a line, which would take this one with it.
                stream.write(("\n" * self._warned + json.dumps(point, allow_nan=False) + "\n").encode())
        except OSError as error:  # a full disk must not cost the training
            if not self._warned:
                what = f"{self._path}: {error.strerror}; once resumed, the run may have steps twice"
                print(f"warning: {what}", file=sys.stderr)
            self._warned = True
        self._tell(point)

    def _tell(self, point: dict[str, Any]) -> None:
        self._told.add(point["step"])
        self._tell_others(point["metrics"], point["step"], point["time"])


def sync_points(folder: Path) -> None:
    """Have on the disk what was told until now: steps that a state says are done, nobody tells anew."""
    with contextlib.suppress(OSError):  # without points, or on a full disk, of which the state's own writing tells
        sync(folder / _POINTS)


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


def nobody(step: int, metrics: dict[str, float]) -> None:
    """Tells nobody: of several processes the first one speaks."""
