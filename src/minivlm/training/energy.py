"""Energy of a piece of work, as the hardware's own meters say it; nothing is estimated.

On an NVIDIA GPU: NVML's energy counter of the board (Volta and later), else NVML's power integrated over time. On
a CPU: the energy counters of the processor packages (RAPL, through Linux's powercap), where they exist and may be
read. Where there is no meter the figure is null and the reason stands beside it.

A board's meter does not see the processor beside it. A package's meter sees everything that its cores do
meanwhile, other programs too, and neither sees the rest of the machine.
"""

from __future__ import annotations

import importlib
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

POWERCAP = Path("/sys/class/powercap")
RAPL_SECONDS = 10.0
"""Between two readings of RAPL: its counters start again after some 60 to 260 kJ, minutes at full power."""
POWER_SECONDS = 0.2
"""Between two readings of power: newer boards average it over a second themselves."""


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


class UnavailableError(Exception):
    """There is no meter, or it cannot be read; the message is the reason."""


class Meter(Protocol):
    """Something that is read now and then and knows the joules since its first reading."""

    @property
    def source(self) -> str:
        """What is read."""

    @property
    def seconds(self) -> float:
        """Between two readings."""

    @property
    def joules(self) -> float:
        """Since the first reading."""

    def read(self) -> None:
        """Take a reading. UnavailableError when the meter has stopped answering."""

    def close(self) -> None:
        """Leave the hardware as it was."""


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


class RaplMeter:
    """Counters of processor packages, in microjoules; each starts again at 0 after its largest value."""

    source = "RAPL: processor packages (/sys/class/powercap), all that runs on them"
    seconds = RAPL_SECONDS

    def __init__(self, packages: Sequence[Path]) -> None:
        self._packages = {path: _number(path / "max_energy_range_uj") for path in packages}
        self._last: dict[Path, int] = {}
        self._microjoules = 0

    @property
    def joules(self) -> float:
        """Since the first reading."""
        return self._microjoules / 1e6

    def read(self) -> None:
        """Add what each package has used since the last reading."""
        for path, largest in self._packages.items():
            now = _number(path / "energy_uj")
            last = self._last.get(path, now)
            self._microjoules += now - last if now >= last else largest - last + now + 1
            self._last[path] = now

    def close(self) -> None:
        """Nothing is held open."""


def rapl_meter(powercap: Path = POWERCAP) -> RaplMeter:
    """The meter of this machine's processor packages; UnavailableError where there is none, or only for root."""
    # intel-rapl is the name on AMD's processors too; intel-rapl:0:1 are parts of a package, psys is no package.
    zones = [path for path in powercap.glob("intel-rapl:*") if re.fullmatch(r"intel-rapl:\d+", path.name)]
    packages = [path for path in sorted(zones) if _text(path / "name").startswith("package")]
    if not packages:
        raise UnavailableError(f"no energy meter of the processor: {powercap} has no RAPL package")
    return RaplMeter(packages)


class NvmlMeter:
    """The boards of some GPUs, by their energy counters where all have one, else by their power over time."""

    def __init__(self, nvml: Any, devices: Sequence[int], clock: Callable[[], float]) -> None:
        self._nvml, self._clock = nvml, clock
        self._handles = [_handle(nvml, device) for device in devices]
        try:
            self._first: list[int] | None = self._counters()
        except nvml.NVMLError:
            self._first = None
        boards = f"{len(self._handles)} GPU board{'s' if len(self._handles) > 1 else ''}"
        what = "total energy counter" if self._first is not None else f"power, each {POWER_SECONDS} s, integrated"
        self.source = f"NVML: {what} of {boards}"
        self.seconds = RAPL_SECONDS if self._first is not None else POWER_SECONDS
        self.joules = 0.0
        self._last: tuple[float, float] | None = None  # time, watts

    def read(self) -> None:
        """Counters are compared with the first ones; of power the trapezium since the last reading is added."""
        try:
            if self._first is not None:
                self.joules = (sum(self._counters()) - sum(self._first)) / 1e3  # millijoules
                return
            now = self._clock(), sum(self._nvml.nvmlDeviceGetPowerUsage(each) for each in self._handles) / 1e3
        except self._nvml.NVMLError as error:
            raise UnavailableError(f"NVML stopped answering: {error}") from None
        if self._last is not None:
            self.joules += (now[0] - self._last[0]) * (now[1] + self._last[1]) / 2
        self._last = now

    def close(self) -> None:
        """NVML counts how often it was opened."""
        self._nvml.nvmlShutdown()

    def _counters(self) -> list[int]:
        return [int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(each)) for each in self._handles]


def nvml_meter(devices: Sequence[int], clock: Callable[[], float] = time.monotonic) -> NvmlMeter:
    """The meter of CUDA devices; UnavailableError without nvidia-ml-py, a driver, or power of these boards."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        raise UnavailableError("no energy meter of the GPU: the package nvidia-ml-py is not installed") from None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise UnavailableError(f"no energy meter of the GPU: NVML: {error}") from None
    try:
        meter = NvmlMeter(nvml, devices, clock)
        meter.read()
        return meter
    except nvml.NVMLError as error:
        reason = UnavailableError(f"no energy meter of the GPU: NVML: {error}")
    except UnavailableError as error:
        reason = error
    nvml.nvmlShutdown()
    raise reason


def _handle(nvml: Any, device: int) -> Any:
    """NVML's handle of a CUDA device, by its UUID: CUDA_VISIBLE_DEVICES renumbers CUDA's devices, not NVML's."""
    import torch

    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except PermissionError:
        raise UnavailableError(f"the processor's energy meter is closed to this user: {path}") from None
    except (OSError, ValueError) as error:
        raise UnavailableError(f"the processor's energy meter cannot be read: {path}: {error}") from None
