"""Where and in what precision a model computes: what `runtime.device` and `--device` mean on this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from minivlm.errors import UserError

if TYPE_CHECKING:
    from minivlm.config.section import Precision

_DEVICES = r"auto|cpu|cuda(:[0-9]+)?"
_BF16_FLAGS = ("avx512_bf16", "amx_bf16")


def resolve_device(device: str) -> str:
    """`auto` → the GPU that CUDA shows first, or the CPU; UserError for another word, and for a GPU that is not
    there."""
    import torch

    if not re.fullmatch(_DEVICES, device):
        raise UserError(f"device {device!r} is none of auto, cpu, cuda and cuda:N")
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    number, count = int(device.partition(":")[2] or 0), torch.cuda.device_count()
    if not torch.cuda.is_available():
        raise UserError(f"device {device!r}: no CUDA device here; use auto or cpu")
    if number >= count:
        raise UserError(f"device {device!r}: there {'is' if count == 1 else 'are'} {count} here, numbered from 0")
    return f"cuda:{number}"


def resolve_precision(precision: Precision, device: str) -> Literal["fp32", "bf16"]:
    """`auto` → bf16 where the device multiplies in it, fp32 elsewhere; `device` as resolve_device returns it."""
    if precision != "auto":
        return precision
    if device.startswith("cuda"):
        import torch

        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device == "cpu" and cpu_computes_bf16() else "fp32"


def cpu_computes_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has bf16 products; without them bf16 is slower than fp32."""
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return any(flag in flags for flag in _BF16_FLAGS)
