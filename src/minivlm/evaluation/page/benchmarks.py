"""The page's benchmarks: benchmarks/results/*.json as bars and lines, beside the machine they were measured on.

Each function takes the values of one file and returns HTML; an empty string where there is nothing to show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from minivlm.evaluation.page.charts import HEIGHT, LEFT, RIGHT, TOP, WIDTH, nice_ticks, svg
from minivlm.evaluation.page.figures import STAGES
from minivlm.evaluation.page.html import Row, card, key, panels, table
from minivlm.evaluation.page.numbers import short

Values = Mapping[str, Any]

PARTS = {
    "decode": "decoding",
    "tower": "vision tower",
    "llm_forward": "language model",
    "backward": "backward",
    "optimizer": "optimizer",
}
SERIES = {"validate": "validate", "tokenize": "tokenize", "train": "40 steps of training"}
SIDES = {"ours": "this project", "reference": "plain reference"}
_BOTTOM = 46  # units below a line chart, for its axis

CSS = """
:root { --part-decode: #8a6d00; --part-tower: #0072b2; --part-llm_forward: #00876a; --part-backward: #c04a00;
  --part-optimizer: #a8508a; }
@media (prefers-color-scheme: dark) {
  :root { --part-decode: #d9b300; --part-tower: #56b4e9; --part-llm_forward: #3fc79a; --part-backward: #f0803c;
    --part-optimizer: #dd9ac5; }
}
i.decode { background: var(--part-decode); } svg rect.decode { fill: var(--part-decode); }
i.tower { background: var(--part-tower); } svg rect.tower { fill: var(--part-tower); }
i.llm_forward { background: var(--part-llm_forward); }
svg rect.llm_forward { fill: var(--part-llm_forward); }
i.backward { background: var(--part-backward); } svg rect.backward { fill: var(--part-backward); }
i.optimizer { background: var(--part-optimizer); } svg rect.optimizer { fill: var(--part-optimizer); }
i.reference { background: var(--soft); } svg rect.reference { fill: var(--soft); }
svg .validate.line, svg .validate.dot { stroke: var(--part-tower); }
svg .tokenize.line, svg .tokenize.dot { stroke: var(--part-llm_forward); }
svg .train.line, svg .train.dot { stroke: var(--part-backward); }
svg .tokenize.line { stroke-dasharray: 9 4; } svg .train.line { stroke-dasharray: 2 4; }
.key i.validate.line { border-color: var(--part-tower); }
.key i.tokenize.line { border-color: var(--part-llm_forward); border-top-style: dashed; }
.key i.train.line { border-color: var(--part-backward); border-top-style: dotted; }
"""


def section(results: Mapping[str, Values]) -> str:
    """All that was measured: name of a file in benchmarks/results/ → its values."""
    rows = results.get("rows", {})
    # Of a training a few steps are measured, however many rows there are: it has no rows a second.
    read = {name: values for name, values in rows.items() if name != "train"}
    shown = []
    for step in (results.get(name, {}) for name in ("step", "step_gpu")):
        shown.append(_panel("Samples a second", speeds(step), step))
        shown.append(_panel("Where a step's time goes", parts(step), step))
    shown += [
        _panel("Rows a second", lines(read, "rows_per_second", "rows a second", 1), rows),
        _panel("Peak memory, MiB", lines(rows, "peak_memory_bytes", "MiB at the peak", 1 << 20), rows),
        _panel("Rows loaded a second", loader(results.get("loader", {})), results.get("loader", {})),
        _panel("Answers", generation(results.get("generation", {})), results.get("generation", {})),
        _panel("Nothing to do: dvc repro", repro(results.get("repro", {})), results.get("repro", {})),
    ]
    return panels(shown)


def speeds(step: Values) -> str:
    """A pair of bars for each stage, this project's and the reference's, and their ratio."""
    left, right, bar = 118, 74, 18
    span, top = WIDTH - left - right, 2.0
    shapes, said = [], []
    for stage, name in STAGES.items():
        if "ratio" not in step.get(stage, {}):
            continue
        values = (step[stage]["samples_per_second"], step[stage]["reference_samples_per_second"])
        ratio = f"{step[stage]['ratio']:.1f}x"
        said.append(f"{name}: {ratio} the reference")
        shapes.append(f'<text class="name" x="0" y="{top + bar + 5:.1f}">{name}, {ratio}</text>')
        for kind, value in zip((stage, "reference"), values, strict=True):
            width = max(span * value / max(values), 1.0)
            title = f"<title>{SIDES.get(kind, SIDES['ours'])}: {short(value)} samples a second</title>"
            shapes.append(
                f'<rect class="{kind}" x="{left}" y="{top}" width="{width:.1f}" height="{bar}" rx="2">'
                f"{title}</rect>"
                f'<text class="value" x="{left + width + 8:.1f}" y="{top + 13}">{short(value)}</text>'
            )
            top += bar + 3
        top += 20
    if not shapes:
        return ""
    ours = {stage: f"{SIDES['ours']}, {name}" for stage, name in STAGES.items() if stage in step}
    legend = key(ours | {"reference": SIDES["reference"]})
    return legend + svg(WIDTH, top - 18, shapes, f"Samples a second. {'; '.join(said)}.")


def parts(step: Values) -> str:
    """One bar for each stage and side, cut into the parts of a step; all bars are equally long."""
    left, right, bar = 190, 92, 18
    span, top = WIDTH - left - right, 2.0
    shapes: list[str] = []
    for stage, name in STAGES.items():
        for side, milliseconds in step.get(stage, {}).get("parts", {}).items():
            whole = sum(milliseconds.values())
            x = float(left)
            shapes.append(f'<text class="name" x="0" y="{top + 13}">{name}, {SIDES[side]}</text>')
            for part, label in PARTS.items():
                width = span * milliseconds[part] / whole
                said = f"{label}: {milliseconds[part]:.3g} ms, {milliseconds[part] / whole:.0%}"
                shapes.append(
                    f'<rect class="{part}" x="{x:.1f}" y="{top}" width="{width:.1f}" height="{bar}">'
                    f"<title>{said}</title></rect>"
                )
                x += width
            shapes.append(f'<text class="value" x="{left + span + 8}" y="{top + 13}">{short(whole)} ms</text>')
            top += bar + 8
        top += 6
    if not shapes:
        return ""
    return key(PARTS) + svg(WIDTH, top - 10, shapes, "Share of each part in the time of a sample.")


def lines(rows: Values, figure: str, unit: str, divisor: float) -> str:
    """A figure over the number of rows, on a logarithmic axis; the figure's axis starts at 0."""
    series = {name: _points(rows.get(name, ()), figure, divisor) for name in SERIES}
    everything = [point for points in series.values() for point in points]
    if not everything:
        return ""
    low, high = math.log10(min(x for x, _ in everything)), math.log10(max(x for x, _ in everything))
    ticks = nice_ticks(0, max(y for _, y in everything))
    left = LEFT + 20

    def x(value: float) -> float:
        share = (math.log10(value) - low) / (high - low) if high > low else 0.5
        return left + 12 + (WIDTH - left - RIGHT - 24) * share

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - _BOTTOM) * (1 - value / ticks[-1])

    shapes = []
    for tick in ticks:
        shapes.append(
            f'<line class="grid" x1="{left}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        )
        shapes.append(f'<text x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{short(tick)}</text>')
    for count in sorted({point[0] for point in everything}):
        shapes.append(f'<text x="{x(count):.1f}" y="{HEIGHT - 22}" text-anchor="middle">{count:,.0f}</text>')
    shapes.append(f'<text x="{(left + WIDTH) / 2}" y="{HEIGHT - 3}" text-anchor="middle">rows</text>')
    for name, points in series.items():
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        shapes.append(f'<polyline class="line {name}" points="{path}"/>')
        for count, value in points:
            title = f"<title>{SERIES[name]}, {count:,.0f} rows: {short(value)} {unit}</title>"
            shapes.append(
                f'<circle class="dot {name}" cx="{x(count):.1f}" cy="{y(value):.1f}" r="4">{title}</circle>'
            )
    legend = key({f"{name} line": label for name, label in SERIES.items() if series[name]})
    return legend + svg(WIDTH, HEIGHT, shapes, f"{unit} over the number of rows.")


def loader(values: Values) -> str:
    """A bar for each stage and number of worker processes; a tick marks what a training step consumes."""
    measured = [row for row in values.get("loading", ()) if row["stage"] in STAGES]
    if not measured:
        return ""
    left, right, bar, top = 150, 66, 15, 4.0
    span = WIDTH - left - right
    most = max(max(row["rows_per_second"], row["consumed_per_second"] or 0) for row in measured)
    shapes = []
    for row in measured:
        width = max(span * row["rows_per_second"] / most, 1.0)
        said = f"{STAGES[row['stage']]}, {row['workers'] or 'no'} worker{'' if row['workers'] < 2 else 's'}"
        shapes.append(
            f'<text class="name" x="0" y="{top + 12}">{said}</text>'
            f'<rect class="{row["stage"]}" x="{left}" y="{top}" width="{width:.1f}" height="{bar}" rx="2">'
            f"<title>{said}: {short(row['rows_per_second'])} rows a second</title></rect>"
        )
        if consumed := row["consumed_per_second"]:
            place = left + span * consumed / most - 1
            shapes.append(f'<rect class="tick" x="{place:.1f}" y="{top - 2}" width="2.5" height="{bar + 4}"/>')
        shapes.append(
            f'<text class="value" x="{left + span + 10}" y="{top + 12}">{short(row["rows_per_second"])}</text>'
        )
        top += bar + 6
    ticked = any(row["consumed_per_second"] for row in measured)
    legend = key({"tick": "what a training step consumes"}) if ticked else ""
    return legend + svg(WIDTH, top, shapes, "Rows that the loader makes a second, by worker processes.")


def repro(values: Values) -> str:
    """Seconds of `dvc repro` with nothing to do, and the shares of what takes them."""
    if "seconds" not in values:
        return ""
    shares = sorted(values.get("parts", ()), key=lambda row: -row["share"])
    named = ", ".join(f"{escape(row['part'])} {row['share']:.0%}" for row in shares if row["share"] >= 0.01)
    figure = f'<div class="figure">{short(values["seconds"])} <small>s</small></div>'
    return figure + (f"<div>{named}</div>" if named else "")


def generation(values: Values) -> str:
    """Time to the first token and tokens a second, by model, batch and cache."""
    rows = [
        Row(
            escape(str(row["model"])),
            [
                str(row["batch"]),
                "on" if row["cache"] else "off",
                short(1000 * row["first_token_seconds"]),
                short(row["tokens_per_second"]),
            ],
        )
        for row in values.get("models", ())
    ]
    columns = ("pictures", "cache", "first token, ms", "tokens/s")
    return table("model", columns, rows, caption="Speed of answers") if rows else ""


def machine(values: Values) -> str:
    """What a file was measured on, in a line; empty when it does not say."""
    about = values.get("machine")
    if not about:
        return ""
    versions = values.get("versions", {})
    gpu = f"{about['gpu']}, " if about.get("gpu") else ""
    torch = f"; torch {versions['torch']}" if versions.get("torch") else ""
    name, _, changes = (versions.get("minivlm") or "").partition("+")
    commit = f", commit {name[:10]}{' with changes' if changes else ''}" if name else ""
    return f"Measured on {gpu}{about['cpu']}, {about['cores']} cores{torch}{commit}."


def _panel(title: str, content: str, values: Values) -> str:
    return card(content, title, escape(machine(values)))


def _points(measured: Sequence[Values], figure: str, divisor: float) -> list[tuple[float, float]]:
    found = [(row["rows"], row[figure] / divisor) for row in measured if row.get(figure) is not None]
    return sorted((float(a), b) for a, b in found if a > 0 and math.isfinite(b))
