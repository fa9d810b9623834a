"""The same operations on another device: hours and money, with the share of its peak that is assumed.

A projection is a calculation, no measurement: seconds = operations / (peak x MFU). The MFU (share of the peak
that the model's operations reach; PaLM, arXiv:2204.02311, appendix B) is the one measured on this GPU where there
is one; else it is assumed. The low and the high end of the range belong to the high and the low end of the MFU's,
and the high end is never less than what launching the kernels of so many steps takes.
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

STEP_SECONDS = 0.01
"""Launching a step's kernels, at the high end: a thousand at ten microseconds each, as eager PyTorch takes."""


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
    flops: float, steps: int, prices: Prices, device: str, measured_mfu: float | None = None
) -> dict[str, Any]:
    """`flops` operations in `steps` steps on one `device`: seconds, hours and money, each with `_low` and `_high`.

    Waiting for data, saving and setting up are not in it. KeyError for a device that `peaks` does not know.
    """
    board, share = BOARDS[device], assumed_share(measured_mfu)
    seconds = {
        "": flops / (board.flops * share["assumed_mfu"]),
        "_low": flops / (board.flops * share["mfu_high"]),
        "_high": max(flops / (board.flops * share["mfu_low"]), steps * STEP_SECONDS),
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
    flops: float, steps: int, prices: Prices, measured_mfu: float | None = None
) -> dict[str, dict[str, Any]]:
    """Device → its projection, for each of DEVICES."""
    return {device: projection(flops, steps, prices, device, measured_mfu) for device in DEVICES}
