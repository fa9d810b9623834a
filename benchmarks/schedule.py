"""The original's whole training: its operations, devices' hours by their peaks, hours at measured speeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Stages = Mapping[str, Mapping[str, Any]]


def schedule(stages: Stages, config: Any, device: str) -> dict[str, Any]:
    """595,000 rows four times and 300,000 rows six times, each row at its own length, pictures computed each time.

    `config`: of the LLaVA measured. `operations` and `devices` are computed: hours at each device's peak, and at a
    share of it (MFU) with a low and a high end. `measured` holds hours and MFU on this GPU; None on a CPU, and
    unless both stages were measured.
    """
    import torch

    from minivlm.training.cost import ORIGINAL_SCHEDULE, LlamaShape, VisionShape, schedule_flops
    from minivlm.training.peaks import find_board

    shapes = LlamaShape.of(config.text_config), VisionShape.of(config.vision_config)
    operations = {stage: schedule_flops(*shapes, each) for stage, each in ORIGINAL_SCHEDULE.items()}
    samples = {stage: round(each.rows * each.epochs) for stage, each in ORIGINAL_SCHEDULE.items()}
    measured = None
    if device.startswith("cuda") and set(stages) == set(samples):
        name = torch.cuda.get_device_name(device)
        board = find_board(name)
        measured = _measured(stages, samples, name, board[1].flops if board else None)
    whole = sum(operations.values())
    share = None
    if measured and (peak := measured["peak_operations_per_second"]):
        # All operations over all hours: the mean of two stages' shares would give other hours than were measured.
        share = whole / (peak * 3600 * measured["ours_hours"]["total"])
    return {
        "samples": samples,
        "operations": operations,
        "devices": devices(whole, share),
        "measured": measured,
    }


def devices(operations: int, mfu: float | None) -> dict[str, dict[str, Any]]:
    """Hours on other devices: at their peak, and at the MFU assumed, or at one measured here and carried over."""
    from minivlm.training.peaks import BOARDS
    from minivlm.training.projection import DEVICES, assumed_share

    share = assumed_share(mfu)
    found = {}
    for name in DEVICES:
        at_peak = operations / BOARDS[name].flops / 3600
        found[name] = {
            "peak_operations_per_second": BOARDS[name].flops,
            "hours_at_peak": at_peak,
            "hours": at_peak / share["assumed_mfu"],
            "hours_low": at_peak / share["mfu_high"],
            "hours_high": at_peak / share["mfu_low"],
            **share,
        }
    return found


def _measured(stages: Stages, samples: Mapping[str, int], name: str, peak: float | None) -> dict[str, Any]:
    def hours(key: str) -> dict[str, float]:
        each = {stage: samples[stage] / stages[stage][key] / 3600 for stage in samples}
        return {**each, "total": sum(each.values())}

    return {
        "device": name,
        "ours_hours": hours("samples_per_second"),
        "reference_hours": hours("reference_samples_per_second"),
        "peak_operations_per_second": peak,
        "mfu": None if peak is None else {s: stages[s]["operations_per_second"] / peak for s in samples},
    }
