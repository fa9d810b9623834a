"""How long work shows itself, on rows or on bytes: one bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from minivlm.terminal import rewrites

_LINE_SECONDS = 10.0


class Progress:
    """Counts `total` things, of which `done` are there already; a context manager that any thread may tell.

    `unit` names the things; bytes, where it is left out, are shown as kB, MB and GB.
    """

    def __init__(self, label: str, total: int, unit: str | None = None, *, done: int = 0) -> None:
        self._label, self._total, self._unit, self._done, self._first = label, total, unit, done, done
        self._start = self._said = time.monotonic()
        self._lock = threading.Lock()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if rewrites(sys.stderr):
            from rich import progress
            from rich.console import Console

            of_bytes = (progress.DownloadColumn(), progress.TransferSpeedColumn())
            columns = (progress.MofNCompleteColumn(), progress.TextColumn(self._unit)) if self._unit else of_bytes
            self._bar = progress.Progress(
                progress.TextColumn("[bold]{task.description}"),
                progress.BarColumn(),
                *columns,
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
                refresh_per_second=2,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._label, total=self._total, completed=self._done)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int) -> None:
        """Say that `count` more are there; a negative count takes back bytes that have to come again."""
        with self._lock:
            self._done += count
            now = time.monotonic()
            if self._bar is not None:
                self._bar.update(self._task, completed=self._done)
            elif now - self._said >= _LINE_SECONDS or (self._done == self._total and count > 0):
                self._said = now
                print(self._line(now - self._start), file=sys.stderr, flush=True)

    def _line(self, seconds: float) -> str:
        rate = max(self._done - self._first, 0) / max(seconds, 1e-9)
        if self._unit:
            return f"{self._label}: {self._done} of {self._total} {self._unit}, {rate:.0f} a second"
        return f"{self._label}: {amount(self._done)} of {amount(self._total)}, {amount(rate)} a second"


def amount(count: float) -> str:
    """Bytes for people, in powers of 1,000 as disks are sold: 950 bytes, 1.2 MB, 5.0 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"
