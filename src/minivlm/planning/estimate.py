"""What a run will take, before anything is spent: `minivlm estimate`.

Parameters (a profile merged in memory) → for every stage hours, money, memory and disk, each with a range and with
where the range comes from; JSON-ready. Training stages are timed by a short probe on this machine, or calculated
for a named device (`paper`). Other stages count only where a benchmark or an earlier run measured them.
"""

from __future__ import annotations

from typing import Any

from minivlm import hardware
from minivlm.config import Params
from minivlm.device import resolve_device, resolve_precision
from minivlm.errors import UserError
from minivlm.paths import TRAIN_SPLITS
from minivlm.planning import plan_with
from minivlm.planning.assumptions import Asked
from minivlm.planning.elsewhere import Seconds, other_stage
from minivlm.planning.present import Present
from minivlm.planning.room import room, totals
from minivlm.planning.training import memory_on
from minivlm.planning.training_time import training_seconds


def estimate(params: Params, present: Present, asked: Asked) -> dict[str, Any]:
    """The estimate. UserError for a device that no peak is known of, and for what is stated and cannot be."""
    if asked.paper:
        from minivlm.training.peaks import BOARDS

        if asked.device not in BOARDS:
            raise UserError(f"no peak is known of {asked.device!r}; known are: {', '.join(BOARDS)}")
        name, precision = asked.device, "bf16"
        price = params.prices.gpu_hour.get(name)
        # Nothing runs here: the GPU that params.yaml asks for need not be in this machine.
        params = params.model_copy(update={"runtime": params.runtime.model_copy(update={"device": "cpu"})})
    else:
        device = resolve_device(params.runtime.device)
        name = hardware.device_name(device)
        precision = resolve_precision(params.pretrain.precision, device)
        price = hardware.price_per_hour(name, params.prices)
    stages = {stage: _stage(stage, params, present, asked, price) for stage in asked.stages}
    return {
        "how": "paper: operations / (peak x assumed MFU)" if asked.paper else "probe: real steps on this machine",
        "device": name,
        "precision": precision,
        "currency": params.prices.currency,
        "price_per_hour": price,
        "stages": stages,
        "total": totals(stages),
    }


def _stage(stage: str, params: Params, present: Present, asked: Asked, price: float | None) -> dict[str, Any]:
    planned = plan_with(stage, params, present)
    entry: dict[str, Any] = {}
    if stage in TRAIN_SPLITS:
        found = training_seconds(stage, params, present, asked)
        if asked.paper:
            from minivlm.training.peaks import BOARDS

            planned |= memory_on(stage, params, present, BOARDS[asked.device].memory)
    else:
        # On paper a device is named, and what was measured here says nothing of it.
        found = Seconds.unknown("not calculated on paper") if asked.paper else other_stage(stage, params, present)
    entry |= found.details
    if found.value is None:
        entry |= {"seconds": None, "hours": None, "money": None, "why": found.why}
    else:
        entry["seconds"], entry["hours"] = found.value.fields(), found.value.times(1 / 3600).fields()
        entry["money"] = None if price is None else found.value.times(price / 3600).fields()
        entry["uncertainty"] = [factor.fields() for factor in found.factors]
    return entry | room(planned)
