"""How trainings show themselves: a bar for each on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from minivlm.parallel import tell
from minivlm.terminal import rewrites

_LINE_SECONDS = 10.0
_TELL_SECONDS = 0.25
_TEXT_WIDTH = 78  # columns of all but the bar


class Shown(NamedTuple):
    """One training at one moment."""

    label: str
    step: int
    total: int
    facts: str


class _Bars:
    """The bars of a terminal; those of another process come in by a thread."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.table import Column

        console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=min(max(console.width - _TEXT_WIDTH, 3), 40)),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            console=console,
            expand=True,  # what the others leave is the facts', which alone are cut off
            refresh_per_second=2,  # its thread takes time from the training's own
        )
        self._tasks: dict[str, Any] = {}
        self._lock = threading.Lock()

    def show(self, shown: Shown) -> None:
        with self._lock:
            if shown.label not in self._tasks:
                self._tasks[shown.label] = self.progress.add_task(shown.label, total=shown.total, facts="")
        self.progress.update(self._tasks[shown.label], completed=shown.step, facts=shown.facts)


_bars: _Bars | None = None  # a terminal has one set of bars: two would tear each other


@contextmanager
def bars() -> Iterator[Callable[[Shown], None]]:
    """Gives what shows a training on this terminal; trainings within, and calls of this, share the bars.

    Where lines cannot be written over nothing is shown.
    """
    global _bars
    if _bars is not None or not rewrites(sys.stderr):
        yield _bars.show if _bars is not None else lambda shown: None
        return
    _bars = _Bars()
    try:
        with _bars.progress:
            yield _bars.show
    finally:
        _bars = None


class TrainingProgress:
    """Loss, samples per second, time left and cost so far of `total` steps; a context manager.

    The price is that of one of the `devices`. `spent` and `device_seconds`: of a training that this one goes on
    with; `silent`: another process shows it.
    """

    def __init__(
        self,
        label: str,
        total: int,
        price_per_hour: float | None,
        currency: str = "",
        *,
        devices: int = 1,
        spent: float = 0.0,
        device_seconds: float = 0.0,
        silent: bool = False,
    ) -> None:
        self._label, self._total = label, total
        self._price, self._currency = price_per_hour, currency
        self._said = time.monotonic()
        self._start = self._said - spent
        self._devices, self._before = devices, device_seconds - devices * spent
        self._silent = silent
        self._show: Callable[[Shown], None] | None = None
        self._every = _LINE_SECONDS
        self._open = ExitStack()

    def __enter__(self) -> TrainingProgress:
        if not self._silent and rewrites(sys.stderr):
            if multiprocessing.parent_process() is None:
                self._show, self._every = self._open.enter_context(bars()), 0.0
            else:  # the terminal is the parent's
                self._show, self._every = tell, _TELL_SECONDS
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._open.close()

    def step(self, step: int, loss: float, samples: int) -> None:
        """Show that `step` is done, with its loss in nats and the samples seen so far."""
        now = time.monotonic()
        if self._silent or (now - self._said < self._every and step < self._total):
            return
        self._said = now
        seconds = max(now - self._start, 1e-9)
        rest = self._time_and_money(step, seconds)
        if self._show:  # with the label, the bar and the numbers of steps 80 columns
            facts = ", ".join([f"loss {loss:.2f}", f"{samples / seconds:.0f} rows/s", *rest])
            self._show(Shown(self._label, step, self._total, facts))
        else:
            facts = ", ".join([f"loss {loss:.4f}", f"{samples / seconds:.1f} samples/s", *rest])
            print(f"{self._label}: step {step}/{self._total}, {facts}", flush=True)

    def _time_and_money(self, step: int, seconds: float) -> list[str]:
        facts = []
        if step < self._total:
            facts.append(f"{clock(seconds / step * (self._total - step))} left")
        else:
            facts.append(f"{clock(seconds)} in all")
        if self._price is not None:
            facts.append(
                f"{self._price * (self._devices * seconds + self._before) / 3600:.4f} {self._currency}".rstrip()
            )
        return facts


def clock(seconds: float) -> str:
    """75 → `1:15`, 4000 → `1:06:40`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
