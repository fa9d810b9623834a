"""How a download shows itself: one bar for all files on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

_LINE_SECONDS = 10.0


class ByteProgress:
    """Counts `total` bytes, of which `done` are there already; a context manager that any thread may tell."""

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self._label, self._total, self._done, self._first = label, total, done, done
        self._start = self._said = time.monotonic()
        self._lock = threading.Lock()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> ByteProgress:
        if sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            self._bar = progress.Progress(
                progress.TextColumn("[bold]{task.description}"),
                progress.BarColumn(),
                progress.DownloadColumn(),
                progress.TransferSpeedColumn(),
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
        """Say that `count` more bytes are there; a negative count takes back bytes that have to come again."""
        with self._lock:
            self._done += count
            now = time.monotonic()
            if self._bar is not None:
                self._bar.update(self._task, completed=self._done)
            elif now - self._said >= _LINE_SECONDS or (self._done == self._total and count > 0):
                self._said = now
                rate = max(self._done - self._first, 0) / max(now - self._start, 1e-9)
                line = f"{self._label}: {amount(self._done)} of {amount(self._total)}, {amount(rate)} a second"
                print(line, file=sys.stderr, flush=True)


def amount(count: float) -> str:
    """Bytes for people, in powers of 1,000 as disks are sold: 950 bytes, 1.2 MB, 5.0 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"
