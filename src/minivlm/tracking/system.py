"""What the machine does while a stage runs: processor, memory, GPUs, as curves of the stage's run.

The names are MLflow's own for such metrics, so its page has a tab for them. Samples are taken on a thread that
sleeps between them, the longer the longer the run lasts (`pause`). Each tells the mean since the one before. No
sample waits for a server: it goes to the journal.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import threading
import time
from collections.abc import Callable
from typing import Any

Tell = Callable[[dict[str, float], int], None]
_FIRST, _GROWTH = 2.0, 1 / 200  # seconds between samples at first, and the share of the run's time later
_MEGABYTE = 1e6


class SystemSampler:
    """Calls `tell(metrics, seconds)` from time to time, `seconds` since the run was begun, until `stop`."""

    def __init__(self, tell: Tell, begun: float, besides: int | None = None) -> None:
        """`begun`: seconds since 1970; of a run that is gone on with, when its first process began it. `besides`:
        the process of the courier, which is no part of the stage's work."""
        self._tell, self._begun, self._besides = tell, begun, besides
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True, name="system metrics")
        self._thread.start()

    def stop(self) -> None:
        """Tell a last sample, and end. Safe to call twice; a driver that hangs is not waited for."""
        self._done.set()
        self._thread.join(5.0)

    def _sample(self) -> None:
        try:
            machine = Machine(self._besides)
        except Exception:  # a system that cannot be asked: the stage runs without these curves
            return
        is_over = False
        while not is_over:
            began = time.monotonic()
            is_over = self._done.wait(pause(time.time() - self._begun))
            if is_over and time.monotonic() - began < _FIRST / 2:
                break  # too short for a mean
            with contextlib.suppress(Exception):  # a driver that fails, a process that ends while it is asked
                # From 1 on: what ends at step 0 the page shows as a bar.
                self._tell(machine.sample(), max(1, math.ceil(time.time() - self._begun)))
        machine.close()


def pause(age: float) -> float:
    """Seconds between two samples of a run that was begun `age` seconds ago."""
    return max(_FIRST, _GROWTH * age)


class Machine:
    """This machine, and this process with those that it has started, `besides` aside."""

    def __init__(self, besides: int | None = None) -> None:
        import psutil

        self._psutil, self._besides = psutil, besides
        self._process = psutil.Process()
        self._gpus = _Gpus()
        self._spent, self._at = self._spending()[0], time.monotonic()
        psutil.cpu_percent()  # the first call only begins the measuring

    def sample(self) -> dict[str, float]:
        """Metrics by MLflow's names; percentages of a process are of one core, so 200 is two cores."""
        memory = self._psutil.virtual_memory()
        (spent, resident), now = self._spending(), time.monotonic()
        share = 100 * max(0.0, spent - self._spent) / max(now - self._at, 1e-3)
        self._spent, self._at = spent, now
        return {
            "system/cpu_utilization_percentage": self._psutil.cpu_percent(),
            "system/system_memory_usage_percentage": memory.percent,
            "system/system_memory_usage_megabytes": (memory.total - memory.available) / _MEGABYTE,
            "system/process_cpu_percentage": share,
            "system/process_memory_usage_megabytes": resident / _MEGABYTE,
            **self._gpus.sample(),
        }

    def close(self) -> None:
        """Let go of the GPUs' driver."""
        self._gpus.close()

    def _spending(self) -> tuple[float, int]:
        """Processor seconds so far and resident bytes now, of this process and those that it has started."""
        own = os.times()  # with the children that have ended
        spent = own.user + own.system + own.children_user + own.children_system
        memory = self._process.memory_info().rss
        for child in self._children():
            with contextlib.suppress(self._psutil.Error):  # it ends meanwhile
                times = child.cpu_times()
                spent += times.user + times.system
                memory += child.memory_info().rss
        return spent, int(memory)

    def _children(self) -> list[Any]:
        try:
            return [child for child in self._process.children(recursive=True) if child.pid != self._besides]
        except self._psutil.Error:
            return []


class _Gpus:
    """The NVIDIA GPUs that the driver shows; none where there is no driver."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._devices: list[Any] = []
        with contextlib.suppress(Exception):  # no driver, or no device
            pynvml = importlib.import_module("pynvml")
            pynvml.nvmlInit()
            self._nvml = pynvml
            count = pynvml.nvmlDeviceGetCount()
            self._devices = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]

    def sample(self) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for index, device in enumerate(self._devices):
            for ask in (self._load, self._memory, self._power):
                # A device that does not tell one (the load of a MIG slice, a laptop's power) tells the others.
                with contextlib.suppress(self._nvml.NVMLError):
                    metrics |= {f"system/gpu_{index}_{name}": value for name, value in ask(device).items()}
        return metrics

    def _load(self, device: Any) -> dict[str, float]:
        return {"utilization_percentage": self._nvml.nvmlDeviceGetUtilizationRates(device).gpu}

    def _memory(self, device: Any) -> dict[str, float]:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(device)
        share = 100 * memory.used / memory.total
        return {"memory_usage_megabytes": memory.used / _MEGABYTE, "memory_usage_percentage": share}

    def _power(self, device: Any) -> dict[str, float]:
        return {"power_usage_watts": self._nvml.nvmlDeviceGetPowerUsage(device) / 1000}

    def close(self) -> None:
        if self._nvml is not None:
            with contextlib.suppress(Exception):
                self._nvml.nvmlShutdown()
