"""The page's time and cost: this run beside what the original states, and each training in detail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from minivlm.evaluation.page.figures import STAGES
from minivlm.evaluation.page.html import Row, card, small, table
from minivlm.evaluation.page.numbers import count, duration, gibibytes, money, scaled

Entry = Mapping[str, Any]
COSTED = {"base": "Base", **STAGES}
PARTS = {"vision_tower": "vision tower", "llm": "language model"}
BOARD = "RTX 4090"  # the original's
# What the original's page states: hours of the two stages, and what they cost. The second line is of a shorter
# schedule, which the same page gives without saying more of it.
ORIGINAL = (
    ("RTX 4090", 2.5, 2.0, "not stated"),
    ("RTX 3090, another schedule", 0.8, 0.2, "1.3 yuan"),
)


def times(reports: Mapping[str, Entry]) -> dict[str, str]:
    """Stage → how long it took, in words, where its report says it."""
    return {
        stage: duration(3600 * r["hours"]) for stage, r in reports.items() if isinstance(r.get("hours"), float)
    }


def against_the_original(reports: Mapping[str, Entry], schedule: Entry) -> str:
    """Hours and money of both stages: stated, projected for the original's schedule, measured in this run.

    `schedule`: of benchmarks/results/step.json, the operations of the original's schedule and their hours.
    """
    shown = {stage: reports[stage] for stage in STAGES if "energy" in reports.get(stage, {})}
    if len(shown) < len(STAGES):
        return ""
    rows = [
        Row(f"The original states{small(device)}", [*map(_hours, (one, two, one + two)), paid])
        for device, one, two, paid in ORIGINAL
    ]
    there = {stage: report["projected"].get(BOARD) for stage, report in shown.items()}
    if schedule.get("devices", {}).get(BOARD) and there["sft"]:
        rows.append(_full_schedule(schedule, there["sft"]["price_per_hour"], shown["sft"]["currency"]))
    measured = [report["hours"] * 3600 for report in shown.values()]
    devices = ", ".join(dict.fromkeys(f"{report['device']}, {report['precision']}" for report in shown.values()))
    cells = [_passed(seconds, report) for seconds, report in zip(measured, shown.values(), strict=True)]
    paid = [report["money"] for report in shown.values()]
    whole = None if None in paid else sum(paid)
    heading = f"This run, measured{small(escape(devices))}"
    rows.append(Row(heading, [*cells, duration(sum(measured)), money(whole, shown["sft"]["currency"])]))
    if all(there.values()):
        rows.append(_this_run_there(list(there.values()), shown["sft"]["currency"]))
    columns = ("Pretrain_vlm", "SFT_vlm", "both", "cost")
    return card(
        table("where", columns, rows, caption="Time and cost beside the original's"), "Beside the original"
    )


def _full_schedule(schedule: Entry, price: float | None, currency: str) -> Row:
    board, operations = schedule["devices"][BOARD], schedule["operations"]
    whole = sum(operations.values())
    each = [f"{duration(3600 * board['hours'] * operations[s] / whole)}" for s in STAGES]
    hours = [board[name] for name in ("hours", "hours_low", "hours_high")]
    both, low, high = (duration(3600 * value) for value in hours)
    paid, least, most = (None if price is None else price * value for value in hours)
    cost = money(paid, currency) + (
        "" if paid is None else small(f"{money(least, currency)} to {money(most, currency)}")
    )
    heading = f"The original's schedule here, <em>projected</em>{small(f'{BOARD}, {scaled(whole)}FLOP')}"
    return Row(heading, [*each, f"{both}{small(f'{low} to {high}')}", cost])


def _this_run_there(parts: list[Entry], currency: str) -> Row:
    cells = [f"{duration(p['seconds'])}{small(_between(p['seconds_low'], p['seconds_high']))}" for p in parts]
    low, middle, high = (sum(p[f"seconds{end}"] for p in parts) for end in ("_low", "", "_high"))
    paid = [p["money"] for p in parts]
    cost = money(None if None in paid else sum(paid), currency)
    heading = f"This run's operations, <em>projected</em>{small(BOARD)}"
    return Row(heading, [*cells, f"{duration(middle)}{small(_between(low, high))}", cost])


def _passed(seconds: float, report: Entry) -> str:
    return duration(seconds) + small(f"{count(report['samples'])} samples")


def _hours(hours: float) -> str:
    return f"{hours:.1f} h"


def _between(low: float, high: float) -> str:
    return f"{duration(low)} to {duration(high)}"


def cost(reports: Mapping[str, Entry]) -> str:
    """What each training took here, and what the same operations would take on other devices.

    A report of an older version, without energy, is left out.
    """
    shown = {stage: reports[stage] for stage in COSTED if "energy" in reports.get(stage, {})}
    if not shown:
        return ""
    devices = list(dict.fromkeys(device for report in shown.values() for device in report["projected"]))
    lines: dict[str, Callable[[Entry], str]] = {
        "device": lambda r: escape(str(r["device"])) + small(escape(r["precision"])),
        "time": lambda r: duration(r["seconds"]),
        "money": lambda r: money(r["money"], r["currency"]),
        "energy": lambda r: _energy(r["energy"]),
        "samples per second": lambda r: _each(r, lambda part: f"{part['samples_per_second']:,.0f}"),
        "tokens per second": lambda r: _each(r, lambda part: f"{part['tokens_per_second']:,.0f}"),
        "share of padding": lambda r: _each(r, lambda part: f"{part['padding_share']:.1%}"),
        "operations": lambda r: f"{scaled(r['flops'] + r['validation_flops'])}FLOP",
        "share of the peak (MFU)": _share,
        "peak memory": _memory,
    }
    for device in devices:
        lines[f"<em>projected</em> to an {escape(device)}"] = (
            lambda r, device=device: _projected(r, device)  # type: ignore[misc]
        )
    rows = [Row(label, [show(report) for report in shown.values()]) for label, show in lines.items()]
    meters = dict.fromkeys(each["energy"]["source"] or each["energy"]["why"] for each in shown.values())
    note = (
        f"Energy: {escape('; '.join(meters))}. Projections are no measurements: "
        "the same operations at an assumed share of the device's peak, and a range. No figure is less than what "
        "launching the kernels takes (docs/cost.md has the times assumed for a step). That rules where models are "
        "small, and makes their projections the same for all devices. Base trains two models, which may run side "
        "by side."
    )
    columns = [COSTED[stage] for stage in shown]
    return card(table("figure", columns, rows, caption="Each training in detail"), "Each training", note)


def _each(report: Entry, show: Callable[[Entry], str]) -> str:
    """A figure of a stage, or of each of base's parts."""
    if "parts" not in report:
        return show(report)
    return "<br>".join(f"{PARTS[name]} {show(part)}" for name, part in report["parts"].items())


def _energy(energy: Entry) -> str:
    if energy["joules"] is None:
        return "not measured"
    return f"{scaled(energy['joules'])}J" + small(f"{energy['mean_watts']:,.0f} W on average")


def _share(report: Entry) -> str:
    source = "measured here" if report["peak_source"].startswith("measured") else "as its maker states"
    return f"{report['mfu']:.1%}" + small(f"of {scaled(report['peak_flops_per_second'])}FLOP/s, {source}")


def _memory(report: Entry) -> str:
    peak = report["peak_memory_bytes"]
    gpu = f"GPU {gibibytes(peak['gpu_reserved'])}" if "gpu_reserved" in peak else ""
    return gibibytes(peak["process"]) + small(gpu)


def _projected(report: Entry, device: str) -> str:
    there = report["projected"].get(device)
    if there is None:
        return ""
    paid = ""
    if there["money"] is not None:
        low, high = (money(there[f"money_{end}"], report["currency"]) for end in ("low", "high"))
        paid = low if low == high else f"{low} to {high}"
    return duration(there["seconds"]) + small(_between(there["seconds_low"], there["seconds_high"])) + small(paid)
