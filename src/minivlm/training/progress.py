"""How a training shows itself: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import multiprocessing
import sys
import time
from typing import Any

_LINE_SECONDS = 10.0


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
        self._shown, self._silent = not silent, False
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> TrainingProgress:
        # Beside a training that has the bar, only the end is said: two writers would tear it.
        self._silent = sys.stderr.isatty() and multiprocessing.parent_process() is not None
        if not self._shown:
            return self
        if sys.stderr.isatty() and not self._silent:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[facts]}"),
                console=Console(stderr=True),
                refresh_per_second=2,  # its thread takes time from the training's own
            )
            self._bar.start()
            self._task = self._bar.add_task(self._label, total=self._total, facts="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, step: int, loss: float, samples: int) -> None:
        """Show that `step` is done, with its loss in nats and the samples seen so far."""
        now = time.monotonic()
        if not self._shown:
            return
        if self._bar is not None:
            self._bar.update(self._task, completed=step, facts=self._facts(step, loss, samples, now))
        elif (now - self._said >= _LINE_SECONDS and not self._silent) or step == self._total:
            self._said = now
            print(f"{self._label}: step {step}/{self._total}, {self._facts(step, loss, samples, now)}", flush=True)

    def _facts(self, step: int, loss: float, samples: int, now: float) -> str:
        seconds = max(now - self._start, 1e-9)
        facts = [f"loss {loss:.4f}", f"{samples / seconds:.1f} samples/s"]
        if step < self._total:
            facts.append(f"{clock(seconds / step * (self._total - step))} left")
        else:
            facts.append(f"{clock(seconds)} in all")
        if self._price is not None:
            facts.append(
                f"{self._price * (self._devices * seconds + self._before) / 3600:.4f} {self._currency}".rstrip()
            )
        return ", ".join(facts)


def clock(seconds: float) -> str:
    """75 → `1:15`, 4000 → `1:06:40`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
