"""What devices can do at most: operations per second and memory, from their makers' papers or measured here.

Operations are dense matrix products of bf16 with fp32 accumulation, which is what training under autocast does.
GeForce boards do these at half the rate of products with fp16 accumulation, the one their boxes name.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import lru_cache

from minivlm.hardware import cores, meant_by

_GIB = 1 << 30
_AMPERE = "NVIDIA Ampere GA102 whitepaper"
_ADA = "NVIDIA Ada GPU architecture whitepaper"
_HOPPER = "NVIDIA H100 whitepaper"


@dataclass(frozen=True)
class Peak:
    """Operations per second at most, and where the figure is from."""

    flops: float
    source: str


@dataclass(frozen=True)
class Board:
    """A GPU's peak and memory in bytes (None where a name stands for several sizes)."""

    flops: float
    memory: int | None
    source: str


BOARDS = {
    "RTX 3090": Board(71.0e12, 24 * _GIB, _AMPERE),
    "RTX 3090 Ti": Board(80.0e12, 24 * _GIB, "84 SMs x 512 operations x 1.86 GHz, as the RTX 3090's"),
    "RTX A6000": Board(154.8e12, 48 * _GIB, _AMPERE),
    "A40": Board(149.7e12, 48 * _GIB, _AMPERE),
    "A100": Board(312.0e12, None, "NVIDIA A100 whitepaper"),
    "RTX 4080": Board(97.5e12, 16 * _GIB, _ADA),
    "RTX 4080 SUPER": Board(104.4e12, 16 * _GIB, "80 SMs x 512 operations x 2.55 GHz, as the RTX 4080's"),
    "RTX 4090": Board(165.2e12, 24 * _GIB, _ADA),
    "RTX 4090 D": Board(147.1e12, 24 * _GIB, "114 SMs x 512 operations x 2.52 GHz, as the RTX 4090's"),
    "L4": Board(121.0e12, 24 * _GIB, "NVIDIA L4 data sheet, half of the figure with sparsity"),
    "L40S": Board(362.0e12, 48 * _GIB, "NVIDIA L40S data sheet"),
    "H100": Board(989.4e12, 80 * _GIB, f"{_HOPPER}, SXM5"),
    "H100 PCIe": Board(756.0e12, 80 * _GIB, f"{_HOPPER}, PCIe"),
    "H100 NVL": Board(835.5e12, 94 * _GIB, "NVIDIA H100 data sheet, half of the figure with sparsity"),
    "H200": Board(989.4e12, 141 * 10**9, "NVIDIA H200 data sheet, SXM: the H100's chip with more memory"),
    "H200 NVL": Board(835.5e12, 141 * 10**9, "NVIDIA H200 data sheet, half of the figure with sparsity"),
    "RTX 5090": Board(209.5e12, 32 * _GIB, "NVIDIA RTX Blackwell GPU architecture whitepaper"),
}
"""By part of the device's name."""


def find_board(name: str) -> tuple[str, Board] | None:
    """The entry that a device's name means; None for others."""
    key = meant_by(name, BOARDS)
    return None if key is None else (key, BOARDS[key])


def peak_of(name: str, device: str, precision: str) -> Peak:
    """The peak of the device that a training ran on: from the table, else measured now, in its precision.

    `name`: the device's; `device`: as torch names it. The table's figures are for bf16: a training in fp32 is held
    against them too, as is usual.
    """
    if (found := find_board(name)) is not None:
        return Peak(found[1].flops, f"{found[1].source} ({found[0]}: bf16 products, fp32 accumulation, dense)")
    return measured_peak(device, precision)


def measured_peak(device: str, precision: str, seconds: float = 0.5) -> Peak:
    """The best rate of square matrix products on `device` within about `seconds`: what a program gets at most.

    A CPU has no useful figure on paper: its clock depends on the load and a container may have part of it. On as
    many threads as torch has now, times the training's processes on this machine.
    """
    import torch

    before = torch.get_num_threads()
    threads = min(cores(), before * int(os.environ.get("LOCAL_WORLD_SIZE") or 1))
    torch.set_num_threads(threads)
    try:
        best, side, runs = _fastest_product(device, precision, threads, seconds)
    finally:
        torch.set_num_threads(before)
    on = "" if device.startswith("cuda") else f", {threads} thread{'s' if threads > 1 else ''}"
    return Peak(
        2 * side**3 / best,
        f"measured here: the fastest of {runs} products of {side} x {side} matrices in {precision}{on}",
    )


@lru_cache  # a process that trains twice is still on the same machine
def _fastest_product(device: str, precision: str, threads: int, seconds: float) -> tuple[float, int, int]:
    """(seconds of the fastest, side of the matrices, products taken), on the `threads` that torch has now."""
    import torch

    side = 8192 if device.startswith("cuda") else 1024
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    # Of ones: numbers do not change the time of a product, and drawing them takes longer than it.
    left = torch.ones(side, side, dtype=dtype, device=device)
    right = torch.ones_like(left)
    best, runs, start = float("inf"), 0, time.perf_counter()
    with torch.no_grad():
        while runs < 3 or (time.perf_counter() - start < seconds and runs < 100):
            begin = time.perf_counter()
            left @ right
            if device.startswith("cuda"):
                torch.cuda.synchronize(device)
            best, runs = min(best, time.perf_counter() - begin), runs + 1
    return best, side, runs
