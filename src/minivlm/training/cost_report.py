"""cost.json of a training stage: what it took here, and what the same operations would take elsewhere.

docs/cost.md explains every field. `cost_report` and `Spent` are plain values; `report_stage` and `report_base`
write, log and print.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm import hardware
from minivlm.files import write_json
from minivlm.training.peaks import Peak, find_board, peak_of
from minivlm.training.progress import clock
from minivlm.training.projection import projections

if TYPE_CHECKING:
    from minivlm.config import Prices
    from minivlm.tracking import Run
    from minivlm.training.energy import Energy, measured_energy
    from minivlm.training.feature_cache import Filled
    from minivlm.training.result import FitResult

_SHOWN = "RTX 4090"  # the original's device, which a stage's last line names


@dataclass(frozen=True)
class Spent:
    """What one training counted. `tokens` without and `padded_tokens` with the padding; FLOPs as `operations` has
    them: training, validation, the optimizer's matrix products. `device_seconds`: of all devices, whose number
    may have changed on the way; None: `seconds` times the number at the end."""

    seconds: float
    steps: int
    samples: int
    tokens: int
    padded_tokens: int
    flops: int
    validation_flops: int
    optimizer_flops: int
    micro_batches: int
    precision: str
    device_seconds: float | None = None

    @classmethod
    def of(cls, result: FitResult) -> Spent:
        """The counts of a training's result."""
        return cls(**{field.name: getattr(result, field.name) for field in dataclasses.fields(cls)})

    @property
    def all_flops(self) -> int:
        """Everything that was computed in `seconds`."""
        return self.flops + self.validation_flops + self.optimizer_flops

    def rates(self) -> dict[str, Any]:
        """Counts, rates and the padding's share."""
        return {
            "steps": self.steps,
            "micro_batches": self.micro_batches,
            "samples": self.samples,
            "tokens": self.tokens,
            "padded_tokens": self.padded_tokens,
            "padding_share": 1 - self.tokens / self.padded_tokens,
            "samples_per_second": self.samples / self.seconds,
            "tokens_per_second": self.tokens / self.seconds,
        }


def money(device_seconds: float, device_name: str, prices: Prices) -> float | None:
    """What seconds of a GPU, or of a machine without one, cost in `prices.currency`; None without a price."""
    price = hardware.price_per_hour(device_name, prices)
    return None if price is None else price * device_seconds / 3600


def cost_report(
    spent: Spent,
    *,
    device_name: str,
    prices: Prices,
    peak: Peak,
    energy: Energy,
    memory: Mapping[str, int],
    devices: int = 1,
    filled: Filled | None = None,
) -> dict[str, Any]:
    """What a training took on `devices` GPUs of that name, or machines with that CPU, and its projections.

    `mfu`: the model's operations (training and validation) over what the devices' peaks allow in that time. A
    training that went on with another number of devices is paid, and measured, by what each of its parts had.
    `filled`: what completing the feature cache took before, while all devices were paid: it is in the hours and
    in what is paid, and not in `seconds`, which rates and shares are of.
    """
    filling = filled.seconds if filled else 0.0
    busy = spent.seconds * devices if spent.device_seconds is None else spent.device_seconds
    share = (spent.flops + spent.validation_flops) / busy / peak.flops
    paid = busy + devices * filling
    on_known_gpu = find_board(device_name) is not None
    return {
        "device": device_name,
        "devices": devices,
        "precision": spent.precision,
        "seconds": spent.seconds,
        "hours": (spent.seconds + filling) / 3600,
        "device_seconds": paid,
        "currency": prices.currency,
        "price_per_hour": hardware.price_per_hour(device_name, prices),
        "money": money(paid, device_name, prices),
        **spent.rates(),
        "flops": spent.flops,
        "validation_flops": spent.validation_flops,
        "optimizer_flops": spent.optimizer_flops,
        "flops_per_second": (spent.flops + spent.validation_flops) / spent.seconds,
        "mfu": share,
        "peak_flops_per_second": peak.flops * devices,
        "peak_source": peak.source,
        "peak_memory_bytes": dict(memory),
        "energy": energy.fields(),
        "projected": projections(spent.all_flops, spent.micro_batches, prices, share if on_known_gpu else None),
        **({"features": dataclasses.asdict(filled)} if filled else {}),
    }


def report_stage(
    stage: str, path: Path, result: FitResult, device_name: str, prices: Prices, energy: Energy, tracker: Run,
    devices: int = 1, filled: Filled | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write cost.json of pretrain or sft to `path`, log its numbers, print a line; returns what was written.

    `filled`: as in `cost_report`.
    """
    report = cost_report(
        Spent.of(result),
        device_name=device_name,
        prices=prices,
        peak=peak_of(device_name, result.device, result.precision),
        energy=energy,
        memory=hardware.peak_memory(),
        devices=devices,
        filled=filled,
    )
    write_json(path, report)
    tracker.log_metrics(numbers(report))
    validated = "" if result.val_loss is None else f", validation {result.val_loss:.4f} at step {result.best_step}"
    print(f"{stage}: loss {result.train_loss:.4f}{validated}; {_line(report)}", flush=True)
    return report


def report_base(
    path: Path,
    parts: Mapping[str, Spent],
    whole: measured_energy,
    device_name: str,
    device: str,
    prices: Prices,
    tracker: Run,
    earlier: float = 0.0,
) -> dict[str, Any] | None:
    """The same of the base stage, whose two trainings may run side by side: their sum, and `parts` with each.

    `whole`: around all of it, reading rows and training the tokenizer included; `parts`: those that were trained,
    with what processes before this one counted, whose seconds are `earlier`. Without any part nothing is written
    and an older file is removed.
    """
    if not parts:
        path.unlink(missing_ok=True)
        return None
    names = [
        field.name
        for field in dataclasses.fields(Spent)
        if field.name not in ("seconds", "precision", "device_seconds")
    ]
    sums = {name: sum(getattr(part, name) for part in parts.values()) for name in names}
    precision = ", ".join(dict.fromkeys(part.precision for part in parts.values()))
    total = Spent(seconds=earlier + whole.seconds, precision=precision, **sums)
    report = cost_report(
        total,
        device_name=device_name,
        prices=prices,
        peak=peak_of(device_name, device, "bf16" if "bf16" in precision else "fp32"),
        energy=whole.energy,
        memory=hardware.peak_memory(),
    )
    for rate in total.rates():
        del report[rate]  # pairs of the tower and rows of the language model do not add up to anything
    report["parts"] = {
        name: {
            "precision": part.precision,
            "seconds": part.seconds,
            **part.rates(),
            "flops": part.flops,
            "validation_flops": part.validation_flops,
            "optimizer_flops": part.optimizer_flops,
        }
        for name, part in parts.items()
    }
    write_json(path, report)
    tracker.log_metrics(numbers(report))
    print(f"base: {_line(report)}", flush=True)
    return report


def numbers(report: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a report as a tracker takes them: nested, without texts and what is not known."""
    found: dict[str, Any] = {}
    for key, value in report.items():
        name = key.replace(" ", "_").lower()  # of a device
        if isinstance(value, Mapping):
            if inner := numbers(value):
                found[name] = inner
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = value
    return found


def _line(report: Mapping[str, Any]) -> str:
    """What it took, in half a line."""
    paid = "" if report["money"] is None else f", {report['money']:.4f} {report['currency']}"
    joules = report["energy"]["joules"]
    used = "" if joules is None else f", {joules:,.0f} J"
    there = report["projected"][_SHOWN]
    filled = report.get("features", {}).get("seconds", 0.0)
    before = f" after {filled:.0f} s for features" if round(filled) else ""
    return (
        f"{report['seconds']:.0f} s in {report['precision']}{before}{paid}{used}, MFU {report['mfu']:.2f} "
        f"(projected to an {_SHOWN}: {clock(there['seconds_low'])} to {clock(there['seconds_high'])})"
    )
