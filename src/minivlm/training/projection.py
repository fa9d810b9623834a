"""The same operations on another device: hours and money, with the share of its peak that is assumed.

A projection is a calculation, no measurement: seconds = operations / (peak x MFU). The MFU (share of the peak
that the model's operations reach; PaLM, arXiv:2204.02311, appendix B) is the one measured on this GPU where there
is one; else it is assumed. The low and the high end of the range belong to the high and the low end of the MFU's;
none of the figures is less than what launching the kernels of so many micro-batches takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minivlm.training.peaks import BOARDS

if TYPE_CHECKING:
    from minivlm.config import Prices

DEVICES = ("RTX 3090", "RTX 4090", "H200")
"""The devices that a training's cost is projected to: the original's, the one before it, a data centre's."""

ASSUMED_MFU, LOWEST_MFU, HIGHEST_MFU = 0.4, 0.25, 0.5
"""Shares of the peak assumed where none was measured. PaLM's table 3 has 0.21 to 0.46 for large language models on
thousands of chips; one GPU has no network to wait for, but a model of 26 M parameters fills it less."""

CARRIED_LOW, CARRIED_HIGH, CARRIED_MOST = 0.6, 1.4, 0.7
"""An MFU measured on one GPU, carried to another: times 0.6 to 1.4, and 0.7 at most. Faster chips have less memory
bandwidth and launch time per operation, slower ones more."""

LAUNCH_SECONDS = {"_low": 0.0045, "": 0.0075, "_high": 0.015}
"""Launching the kernels of a micro-batch's forward and backward pass, by end of the range: at the original's sizes
eager PyTorch has 1,400 operations in pretrain and 1,600 in sft (counted as they are dispatched, without views).
They are taken at 3, 5 and 10 microseconds each (assumed). However small the batch, it takes no less."""


def assumed_share(measured: float | None) -> dict[str, Any]:
    """The MFU a projection takes: `assumed_mfu`, `mfu_low`, `mfu_high`, `mfu_from`; `measured`: this GPU's."""
    if measured is None:
        return {
            "assumed_mfu": ASSUMED_MFU,
            "mfu_low": LOWEST_MFU,
            "mfu_high": HIGHEST_MFU,
            "mfu_from": "assumed: no GPU's was measured in this run",
        }
    return {
        "assumed_mfu": measured,
        "mfu_low": CARRIED_LOW * measured,
        "mfu_high": max(measured, min(CARRIED_HIGH * measured, CARRIED_MOST)),
        "mfu_from": f"reached in this run, carried over: x {CARRIED_LOW} to x {CARRIED_HIGH}",
    }


def projection(
    flops: float, batches: int, prices: Prices, device: str, measured_mfu: float | None = None
) -> dict[str, Any]:
    """`flops` operations in `batches` micro-batches on one `device`: seconds, hours, money; ends `_low`, `_high`.

    Waiting for data, saving and setting up are not in it. KeyError for a device that `peaks` does not know.
    """
    board, share = BOARDS[device], assumed_share(measured_mfu)
    shares = {"": "assumed_mfu", "_low": "mfu_high", "_high": "mfu_low"}
    seconds = {
        end: max(flops / (board.flops * share[mfu]), batches * LAUNCH_SECONDS[end]) for end, mfu in shares.items()
    }
    price = prices.gpu_hour.get(device)
    return {
        **{f"seconds{end}": value for end, value in seconds.items()},
        **{f"hours{end}": value / 3600 for end, value in seconds.items()},
        **{f"money{end}": None if price is None else price * value / 3600 for end, value in seconds.items()},
        "price_per_hour": price,
        **share,
        "peak_flops_per_second": board.flops,
        "peak_source": board.source,
    }


def projections(
    flops: float, batches: int, prices: Prices, measured_mfu: float | None = None
) -> dict[str, dict[str, Any]]:
    """Device → its projection, for each of DEVICES."""
    return {device: projection(flops, batches, prices, device, measured_mfu) for device in DEVICES}
