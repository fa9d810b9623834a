"""The page's captions, data facts and cost as HTML, from the reports' plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from minivlm.data.scenes.parse import parse_caption
from minivlm.evaluation.page.figures import STAGES
from minivlm.evaluation.page.marks import marked

Entry = Mapping[str, Any]
FILES = ("pretrain", "sft", "heldout", "compositional")


def captions(entries: Sequence[Entry], images: Mapping[str, str]) -> str:
    """The original's table with pictures inside the page; `images` maps a file's name to its data URI.

    For drawn scenes, words that are wrong are marked and what is wrong or missing is listed below the caption.
    """
    rows = []
    for entry in entries:
        title = escape(entry["title"])
        picture = f'<img src="{images[entry["file"]]}" alt="{title}">' if entry["file"] in images else ""
        cells = "".join(_caption(entry[stage]) for stage in STAGES)
        rows.append(f"<tr><td><figure>{picture}<figcaption>{title}</figcaption></figure></td>{cells}</tr>")
    return (
        '<div class="card scroll"><table class="captions" lang="zh-CN"><thead><tr><th>图片</th>'
        f"<th>Pretrain_vlm</th><th>SFT_vlm</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def samples(entries: Sequence[Entry]) -> str:
    """Held-out pictures in words: references beside both captions."""
    if not entries:
        return ""
    rows = []
    for entry in entries:
        references = "<br>".join(escape(text) for text in entry["references"][:5])
        cells = "".join(_caption(entry[stage]) for stage in STAGES)
        rows.append(f"<tr><td>{escape(entry['picture'])}</td><td>{references}</td>{cells}</tr>")
    return (
        f"<details><summary>{len(rows)} held-out pictures in words</summary>"
        '<div class="card scroll"><table lang="zh-CN"><thead><tr><th>Picture</th><th>References</th>'
        f"<th>Pretrain_vlm</th><th>SFT_vlm</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _caption(said: Entry) -> str:
    if "mistakes" not in said:
        return f"<td>{escape(said['caption'])}</td>"
    words = _said_in_words(said["mistakes"])
    chips = "".join(f"<span>{escape(text)}</span>" for text in words) or '<span class="right">all right</span>'
    text = marked(said["caption"], said["mistakes"], parse_caption)
    return f'<td>{text}<div class="mistakes" lang="en">{chips}</div></td>'


def _said_in_words(mistakes: Sequence[Entry]) -> list[str]:
    """Mistakes in words; a thing that is missing or made up is said once, not again for its number and colour."""
    whole = {
        (m["of"], side)
        for m in mistakes
        for side in ("true", "stated")
        if m["attribute"] == "kind" and not m[side]
    }
    words = []
    for mistake in mistakes:
        belongs = any((mistake.get("of"), side) in whole and mistake[side] is None for side in ("true", "stated"))
        if mistake["attribute"] == "kind" or not belongs:
            words.append(_mistake(mistake))
    return words


def _mistake(mistake: Entry) -> str:
    """One mistake in words: "colour of boat: blue, not red"; "bird not mentioned"; "house is not there"."""
    attribute, true, stated = mistake["attribute"], mistake["true"], mistake["stated"]
    if attribute == "kind":
        return f"{true} not mentioned" if stated is None else f"{stated} is not there"
    name = f"{attribute} of {mistake['of']}" if mistake.get("of") else attribute
    if stated is None:
        return f"{name} not mentioned: {true}"
    return f"{name}: {stated}, made up" if true is None else f"{name}: {stated}, not {true}"


def data(validation: Mapping[str, Entry], tokenize: Mapping[str, Any]) -> str:
    """Rows of each file with the gate's verdict, and the figures of tokenize."""
    rows = []
    for file in FILES:
        report = validation.get(file)
        if not report or not report.get("present", True):
            continue
        checks = report.get("expectations", [])
        held = sum(1 for check in checks if check.get("success"))
        cells = [f"{report.get(key, 0):,}" for key in ("rows", "accepted", "rejected")] + [
            f"{held} of {len(checks)}"
        ]
        rows.append(f"<tr><th>{file}</th>{''.join(f'<td class=number>{cell}</td>' for cell in cells)}</tr>")
    parts = []
    if rows:
        head = "".join(
            f'<th class="number">{name}</th>' for name in ("rows", "accepted", "rejected", "checks passed")
        )
        parts.append(_card("What validate found", f"<tr><th></th>{head}</tr>", rows))
    lengths = [f"<tr><th>{escape(k)}</th><td class=number>{_number(v)}</td></tr>" for k, v in tokenize.items()]
    if lengths:
        parts.append(_card("What tokenize counted", "", lengths))
    return f'<div class="panels">{"".join(parts)}</div>' if parts else ""


COSTED = {"base": "Base", **STAGES}
PARTS = {"vision_tower": "vision tower", "llm": "language model"}


def cost(reports: Mapping[str, Entry]) -> str:
    """What each training took here, and what the same operations would take on other devices.

    A report of an older version, without energy, is left out.
    """
    shown = {stage: reports[stage] for stage in COSTED if "energy" in reports.get(stage, {})}
    if not shown:
        return ""
    devices = list(dict.fromkeys(device for report in shown.values() for device in report["projected"]))
    lines: dict[str, Callable[[Entry], str]] = {
        "device": lambda r: _cell(escape(str(r["device"])), escape(r["precision"])),
        "time": lambda r: _cell(duration(r["seconds"])),
        "money": lambda r: _cell(_money(r["money"], r["currency"])),
        "energy": lambda r: _energy(r["energy"]),
        "samples per second": lambda r: _each(r, lambda part: f"{part['samples_per_second']:,.0f}"),
        "tokens per second": lambda r: _each(r, lambda part: f"{part['tokens_per_second']:,.0f}"),
        "share of padding": lambda r: _each(r, lambda part: f"{part['padding_share']:.1%}"),
        "operations": lambda r: _cell(f"{scaled(r['flops'] + r['validation_flops'])}FLOP"),
        "share of the peak (MFU)": _share,
        "peak memory": _memory,
    }
    for device in devices:
        lines[f"on an {escape(device)}"] = lambda r, device=device: _projected(r, device)  # type: ignore[misc]
    rows = [
        f"<tr><th>{label}</th>{''.join(show(report) for report in shown.values())}</tr>"
        for label, show in lines.items()
    ]
    head = "".join(f'<th class="number">{COSTED[stage]}</th>' for stage in shown)
    meters = dict.fromkeys(each["energy"]["source"] or each["energy"]["why"] for each in shown.values())
    note = (
        f'<p class="note">Energy: {escape("; ".join(meters))}. The last lines are projections, no measurements: '
        "the same operations at an assumed share of the device's peak, and a range. At its high end a step takes "
        "10 ms at least: kernels have to be launched, which rules where models are small. Base trains two models, "
        "which may run side by side.</p>"
    )
    return _card("", f"<tr><th></th>{head}</tr>", rows) + note


def _cell(text: str, small: str = "") -> str:
    return f"<td class=number>{text}{f'<small>{small}</small>' if small else ''}</td>"


def _each(report: Entry, show: Callable[[Entry], str]) -> str:
    """A figure of a stage, or of each of base's parts."""
    if "parts" not in report:
        return _cell(show(report))
    return _cell("<br>".join(f"{PARTS[name]} {show(part)}" for name, part in report["parts"].items()))


def _energy(energy: Entry) -> str:
    if energy["joules"] is None:
        return _cell("not measured")
    return _cell(f"{scaled(energy['joules'])}J", f"{energy['mean_watts']:,.0f} W on average")


def _share(report: Entry) -> str:
    measured = report["peak_source"].startswith("measured")
    source = "measured here" if measured else "as its maker states"
    return _cell(f"{report['mfu']:.1%}", f"of {scaled(report['peak_flops_per_second'])}FLOP/s, {source}")


def _memory(report: Entry) -> str:
    peak = report["peak_memory_bytes"]
    gpu = f"GPU {_gibibytes(peak['gpu_reserved'])}" if "gpu_reserved" in peak else ""
    return _cell(_gibibytes(peak["process"]), gpu)


def _projected(report: Entry, device: str) -> str:
    there = report["projected"].get(device)
    if there is None:
        return _cell("")
    between = f"{duration(there['seconds_low'])} to {duration(there['seconds_high'])}"
    paid = ""
    if there["money"] is not None:
        low, high = (_money(there[f"money_{end}"], report["currency"]) for end in ("low", "high"))
        paid = f"; {low}" if low == high else f"; {low} to {high}"
    return _cell(duration(there["seconds"]), f"{between}{paid}")


def scaled(count: float) -> str:
    """1234567 → 1.23 M, with a space before the unit that follows."""
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {prefix}"
    return f"{count:.3g} "


def _gibibytes(count: int) -> str:
    return f"{count / (1 << 30):.2f} GiB"


def duration(seconds: float) -> str:
    """A time as people say it: 2 ms, 0.4 s, 48 s, 2 min 5 s, 1 h 20 min."""
    if seconds < 0.1:
        return f"{1000 * seconds:.0f} ms" if seconds >= 0.001 else "under 1 ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _money(amount: float | None, currency: str) -> str:
    if amount is None:
        return "no price known"
    if 0 < amount < 0.001:
        return f"under 0.001 {escape(currency)}"
    return (
        f"{amount:.2f} {escape(currency)}" if amount >= 0.1 or amount == 0 else f"{amount:.2g} {escape(currency)}"
    )


def _number(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"
    return escape(str(value))


def _card(title: str, head: str, rows: Sequence[str]) -> str:
    heading = f"<h3>{title}</h3>" if title else ""
    top = f"<thead>{head}</thead>" if head else ""
    return f'<div class="card scroll">{heading}<table>{top}<tbody>{"".join(rows)}</tbody></table></div>'
