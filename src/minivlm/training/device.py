"""Where and in what precision a training computes, and the settings that make it repeatable."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from minivlm.config import Precision
from minivlm.errors import UserError

ROWS_WORTH_A_WORKER = 20_000
_BF16_FLAGS = ("avx512_bf16", "amx_bf16")


def resolve_device(device: str) -> str:
    """`auto` → the GPU that CUDA shows first, or the CPU; UserError for a GPU that is not there."""
    import torch

    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"runtime.device = {device!r}: no CUDA device here; use auto or cpu")
    return "cuda:0" if device == "cuda" else device


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


def loader_workers(workers: int, threads: int, device: str, rows: int) -> int:
    """Processes that prepare batches of `rows` rows in all; 0: the training's own process does.

    Few rows are prepared sooner than a process starts (it imports torch: seconds). On a CPU only the cores that
    the training leaves over are taken.
    """
    from minivlm.hardware import cores

    if rows < ROWS_WORTH_A_WORKER:
        return 0
    return workers if device.startswith("cuda") else max(0, min(workers, cores() - threads))


def seed_everything(seed: int, threads: int) -> None:
    """Seed Python, NumPy and torch, fix the number of threads and ask for deterministic kernels.

    The same seed and threads then give the same bytes on the same machine. Call it before CUDA is first used.
    """
    import random

    import numpy as np
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is repeatable only with it
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # On by default with the above, to find reads of what was never written: it writes every torch.empty twice.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010  (unknown to mypy)
