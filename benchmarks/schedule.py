"""The original's whole training at measured speeds, and the least time that a device's peak allows for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Rows and epochs of the original's stages, as its README has them.
SCHEDULE = {"pretrain": (595_000, 4), "sft": (300_000, 6)}


def schedule(stages: Mapping[str, Mapping[str, Any]], device: str) -> dict[str, Any] | None:
    """The original's whole training at these speeds, in hours, with the least that the device's peak allows.

    None on a CPU, and unless both stages were measured. `mfu`: share of the peak that was reached, by stage.
    """
    import torch

    from minivlm.training.cost import PEAK_FLOPS

    if not device.startswith("cuda") or set(stages) != set(SCHEDULE):
        return None
    samples = {stage: rows * epochs for stage, (rows, epochs) in SCHEDULE.items()}
    operations = sum(stages[stage]["operations_per_sample"] * samples[stage] for stage in samples)
    name = torch.cuda.get_device_name(device)
    peak = next((peak for key, peak in PEAK_FLOPS.items() if key in name), None)

    def hours(key: str) -> dict[str, float]:
        by_stage = {stage: samples[stage] / stages[stage][key] / 3600 for stage in samples}
        return {**by_stage, "total": sum(by_stage.values())}

    return {
        "samples": samples,
        "operations": operations,
        "ours_hours": hours("samples_per_second"),
        "reference_hours": hours("reference_samples_per_second"),
        "peak_operations_per_second": peak,
        "roofline_hours": None if peak is None else operations / peak / 3600,
        "mfu": None if peak is None else {s: stages[s]["operations_per_second"] / peak for s in samples},
    }
