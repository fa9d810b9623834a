"""Energy of a piece of work, as the hardware's own meters say it; nothing is estimated.

On an NVIDIA GPU: NVML's energy counter of the board (Volta and later), else NVML's power integrated over time. On
a CPU: the energy counters of the processor packages (RAPL, through Linux's powercap), where they exist and may be
read. Where there is no meter the figure is null and the reason stands beside it.

A board's meter does not see the processor beside it. A package's meter sees everything that its cores do
meanwhile, other programs too, and neither sees the rest of the machine.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from minivlm.training.meters import POWERCAP, Meter, UnavailableError, nvml_meter, rapl_meter


@dataclass(frozen=True)
class Energy:
    """Joules with their source and the seconds they were measured over, or None with the reason."""

    joules: float | None
    source: str | None
    why: str | None = None
    seconds: float = 0.0

    def fields(self) -> dict[str, Any]:
        """Its entry in cost.json."""
        known = self.joules is not None
        return {
            "joules": self.joules,
            "watt_hours": self.joules / 3600 if self.joules is not None else None,
            "mean_watts": self.joules / self.seconds if self.joules is not None and self.seconds > 0 else None,
            "seconds": self.seconds if known else None,
            "source": self.source,
            **({} if known else {"why": self.why}),
        }


class measured_energy:  # noqa: N801  (a context manager, used like a function)
    """Measure the body of a `with`: `.energy` and `.seconds` hold it afterwards, also when the body has failed."""

    def __init__(
        self, device: str, *, powercap: Path = POWERCAP, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`device`: cpu or cuda:N, as torch names it."""
        self._device, self._powercap = device, powercap
        self._meter: Meter | None = None
        self._clock, self._why = clock, "not measured"
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self.energy = Energy(None, None, self._why)
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._start = self._clock()
        try:
            meter = self._open()
            meter.read()
        except UnavailableError as error:
            self._give_up(error)
            return self
        self._meter = meter
        self._thread = threading.Thread(target=self._sample, args=(meter,), daemon=True, name="energy")
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.seconds = self._clock() - self._start
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        if self._meter is None:
            self.energy = Energy(None, None, self._why)
            return
        meter = self._meter
        try:
            meter.read()
            self.energy = Energy(meter.joules, meter.source, seconds=self.seconds)
        except UnavailableError as error:
            self._give_up(error)
            self.energy = Energy(None, None, self._why)
        finally:
            meter.close()

    def _open(self) -> Meter:
        if self._device.startswith("cuda"):
            return nvml_meter(devices_in_use(self._device), self._clock)
        return rapl_meter(self._powercap)

    def _sample(self, meter: Meter) -> None:
        while not self._done.wait(meter.seconds):
            try:
                meter.read()
            except UnavailableError as error:
                self._give_up(error)
                meter.close()
                return

    def _give_up(self, error: UnavailableError) -> None:
        self._why, self._meter = str(error), None


def devices_in_use(device: str) -> list[int]:
    """The visible GPUs that this node's processes compute on: this one's, or one for each local rank."""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    return list(range(ranks)) if ranks > 1 else [int(device.partition(":")[2] or 0)]
