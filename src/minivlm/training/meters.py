"""The energy meters of the hardware: NVML's of GPU boards, RAPL's of processor packages.

NVML has an energy counter of a board (Volta and later), else its power, which is integrated over time. RAPL has
energy counters of processor packages, read through Linux's powercap where they exist and may be read.
"""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

POWERCAP = Path("/sys/class/powercap")
RAPL_SECONDS = 10.0
"""Between two readings of RAPL: its counters start again after some 60 to 260 kJ, minutes at full power."""
POWER_SECONDS = 0.2
"""Between two readings of power: newer boards average it over a second themselves."""


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
