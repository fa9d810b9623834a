"""The results of a run that another process may go on with, beside the states of its training.

    .state/<stage>/<key>/results.jsonl        ["val_loss", 1.4, 1767225701000, 420]

Each is written down before it is told. A process that was killed between its results and its end leaves them
there, and the next one, which computes them again, tells what is written: the same value, time and step, which
MLflow keeps once. Times and what follows from them (seconds, money) would be others.
"""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict, deque
from pathlib import Path

Point = tuple[str, float, int, int]  # name, value, milliseconds since 1970, step


class Results:
    """Those of one run; without a file, nothing is remembered."""

    def __init__(self, path: Path | None = None) -> None:
        """Read what an earlier process has left in `path`; damaged lines are left out."""
        self.path = path
        self._earlier = defaultdict[str, deque[Point]](deque)
        content = path.read_bytes() if path is not None and path.is_file() else b""
        self._is_torn = bool(content) and not content.endswith(b"\n")
        for line in content.split(b"\n"):
            if point := _point(line):
                self._earlier[point[0]].append(point)

    def earlier(self, name: str) -> Point | None:
        """What the earlier process told of `name`, each once, in order; None when it told no more."""
        return self._earlier[name].popleft() if self._earlier[name] else None

    def note(self, point: Point) -> None:
        """Write a result down. On a disk that is full it is told all the same, and after a kill perhaps twice."""
        if self.path is None:
            return
        line = "\n" * self._is_torn + json.dumps(point) + "\n"
        self._is_torn = True
        with contextlib.suppress(OSError), self.path.open("ab") as stream:
            stream.write(line.encode())
            self._is_torn = False


def _point(line: bytes) -> Point | None:
    try:
        name, value, time, step = json.loads(line)
        return (name, float(value), int(time), int(step)) if isinstance(name, str) else None
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
