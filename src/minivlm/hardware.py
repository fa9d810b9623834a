"""What this machine is called, what an hour of it costs, and how much memory a process took at its peak."""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minivlm.config import Prices

_KIBIBYTE = 1024
_GPU_WORDS = ("NVIDIA", "GEFORCE", "RTX", "TESLA", "INSTINCT")
# Of a like name and another chip, other clocks or a part of a chip: who means it names it.
_OTHER_CHIPS = ("laptop", "mobile", "max-q", "mig", "ti", "super", "d")


def cpu_model() -> str:
    """The processor's marketing name, from /proc/cpuinfo or, elsewhere, from `platform`."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown CPU"


def cores() -> int:
    """Cores that this process may run on (a container or `taskset` may allow fewer than there are)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device_name(device: str = "auto") -> str:
    """The name that a price is looked up by: the GPU's that `device` (auto, cpu, cuda:N) means, or the CPU's.

    torch costs 1.6 s to import: it is asked only where it is loaded already or a GPU's device file exists.
    """
    if device == "cpu" or ("torch" not in sys.modules and not Path("/dev/nvidiactl").exists()):
        return cpu_model()
    import torch

    if not torch.cuda.is_available():
        return cpu_model()
    return torch.cuda.get_device_name(None if device == "auto" else device)


def is_gpu(name: str) -> bool:
    """Whether a device's name is a GPU's rather than this machine's CPU's."""
    return name != cpu_model() and any(word in name.upper() for word in _GPU_WORDS)


def meant_by(name: str, keys: Iterable[str]) -> str | None:
    """The longest of the keys that a device's name holds as whole words; None where it is another chip.

    An "RTX 4090 Laptop GPU" is no "RTX 4090" (it is an "RTX 4090 Laptop"), an "L40S" no "L40" and no "L4".
    """

    def holds(text: str, key: str) -> bool:
        return re.search(rf"(?<![a-z0-9]){re.escape(key.lower())}(?![a-z0-9])", text.lower()) is not None

    others = [word for word in _OTHER_CHIPS if holds(name, word)]
    found = [key for key in keys if holds(name, key) and all(holds(key, word) for word in others)]
    return max(found, key=len, default=None)


def price_per_hour(name: str, prices: Prices) -> float | None:
    """Price of an hour of a device, by the key of `prices.gpu_hour` that its name means; `cpu_hour` for a CPU.

    None for a GPU without a price: no figure is better than an invented one.
    """
    if (key := meant_by(name, prices.gpu_hour)) is not None:
        return prices.gpu_hour[key]
    return None if is_gpu(name) else prices.cpu_hour


def memory_bytes() -> int | None:
    """Memory of the machine in bytes; a container's limit where it is lower."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        return min(total, int(limit)) if limit.isdigit() else total
    except OSError:
        return total


def peak_memory() -> dict[str, int]:
    """Peak bytes of this process so far: `process` (resident set) and, where CUDA has been used, of its GPU
    `gpu_allocated` (held by tensors) and `gpu_reserved` (taken from the GPU by torch, free blocks included)."""
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = {"process": resident if sys.platform == "darwin" else resident * _KIBIBYTE}  # macOS counts bytes
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        peak["gpu_allocated"] = int(torch.cuda.max_memory_allocated())
        peak["gpu_reserved"] = int(torch.cuda.max_memory_reserved())
    return peak
