"""Tables of training steps: their speed, what kept features gain, the original's whole schedule."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.markdown import Values, about, number, table
from minivlm.evaluation.page.benchmarks import PARTS

STAGES = ("pretrain", "sft")
SIDES = {"ours": "this project", "reference": "reference"}
PUBLISHED = {"pretrain": 2.5, "sft": 2.0, "total": 4.5}
"""Hours on one RTX 4090, as the original's README has them."""


def speed(step: Values) -> str:
    """Samples a second of both sides and their ratio; what is computed for a row; where the time goes."""
    stages = {stage: step[stage] for stage in STAGES if stage in step}
    speeds = table(
        ("stage", "this project, samples/s", "reference", "ratio", "of single repeats", "padding", "TFLOP/s"),
        [
            (
                stage,
                number(each["samples_per_second"]),
                number(each["reference_samples_per_second"]),
                f"**{each['ratio']:.1f}**",
                " to ".join(f"{ratio:.1f}" for ratio in each["ratio_range"]),
                f"{each['padding_share']:.1%}",
                number(each["operations_per_second"] / 1e12),
            )
            for stage, each in stages.items()
        ],
    )
    speeds += _memory(stages)
    counts = table(
        ("counted", "side", "tokens a row, padded", "logits per supervised token", "tower runs per picture"),
        [
            (
                stage,
                SIDES[side],
                f"{counted['padded_tokens_per_row']:,.0f}",
                f"{counted['logit_positions_per_supervised_token']:.2f}",
                f"{counted['tower_runs_per_picture']:.2f}",
            )
            for stage, each in stages.items()
            for side, counted in each["counts"].items()
        ],
    )
    times = table(
        ("milliseconds a sample", "side", *PARTS.values(), "sum"),
        [
            (stage, SIDES[side], *(number(ms[part]) for part in PARTS), number(sum(ms.values())))
            for stage, each in stages.items()
            for side, ms in each["parts"].items()
        ],
    )
    return f"{about(step)}\n\n{speeds}\n{times}\n{counts}"


def _memory(stages: Mapping[str, Values]) -> str:
    """Peak memory of a GPU, less what the other side holds there meanwhile; empty for a CPU."""
    if not any(each["peak_memory_bytes"] for each in stages.values()):
        return ""
    peaks = [
        (stage, *(number(each[key] / 2**30) for key in ("peak_memory_bytes", "reference_peak_memory_bytes")))
        for stage, each in stages.items()
    ]
    return "\n" + table(("peak memory, GiB", "this project", "reference"), peaks)


def schedule(step: Values) -> str:
    """Hours of the original's whole training: published, measured on a GPU, and computed from peaks."""
    found = step["schedule"]
    rows = [("the original, as published", "RTX 4090", *(f"{PUBLISHED[key]:g}" for key in PUBLISHED), "")]
    if measured := found["measured"]:
        for side, name in SIDES.items():
            hours = measured[f"{side}_hours"]
            mfu = measured["mfu"] if side == "ours" else None
            share = "" if mfu is None else ", ".join(f"{mfu[stage]:.2f}" for stage in STAGES)
            rows.append((name, measured["device"], *(number(hours[key]) for key in PUBLISHED), share))
    operations = sum(found["operations"].values())
    for device, each in found["devices"].items():
        rows.append(("at the peak, computed", device, *_shared(found, each["hours_at_peak"]), "1"))
        between = f"{number(each['hours'])} ({number(each['hours_low'])} to {number(each['hours_high'])})"
        mfu_range = f"{each['assumed_mfu']:.2f} ({each['mfu_high']:.2f} to {each['mfu_low']:.2f})"
        rows.append(("projected", device, "", "", between, mfu_range))
    shown = table(("hours", "device", *PUBLISHED, "MFU"), rows)
    assumed = next(iter(found["devices"].values()))["mfu_from"]
    return f"{operations / 1e15:,.0f} PFLOP in all; MFU of the projections {assumed}.\n\n{shown}"


def features(values: Values) -> str:
    """Samples a second without and with kept features, and what keeping them takes."""
    speeds = table(
        (
            "stage",
            "tower computed, samples/s",
            "features read",
            "ratio",
            "of single repeats",
            "pays for filling after, epochs",
        ),
        [
            (
                stage,
                number(values[stage]["samples_per_second"]),
                number(values[stage]["kept_samples_per_second"]),
                f"**{values[stage]['ratio']:.2f}**",
                " to ".join(f"{ratio:.2f}" for ratio in values[stage]["ratio_range"]),
                number(_epochs_that_pay(values["fill_pictures_per_second"], values[stage])),
            )
            for stage in STAGES
            if stage in values
        ],
    )
    kept = (number(values["fill_pictures_per_second"]), number(values["megabytes_per_picture"]))
    return f"{about(values)}\n\n{speeds}\n{table(('filled, pictures/s', 'MB a picture on disk'), [kept])}"


def _epochs_that_pay(filled: float, each: Values) -> float | None:
    """After how many epochs filling took as long as reading has saved, where each row has a picture of its own;
    None where reading saves nothing."""
    saved = 1 / each["samples_per_second"] - 1 / each["kept_samples_per_second"]
    return 1 / filled / saved if saved > 0 else None


def _shared(found: Values, hours: float) -> tuple[str, ...]:
    """Hours by stage as their operations share them, and the total."""
    whole = sum(found["operations"].values())
    return (*(number(hours * found["operations"][stage] / whole) for stage in STAGES), number(hours))
