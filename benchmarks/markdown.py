"""What the tables of docs/performance.md are made of: numbers of three digits, rows, a line on the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minivlm.evaluation.page.benchmarks import machine

Values = Mapping[str, Any]


def about(values: Values) -> str:
    """Machine, versions, precision and threads of a benchmark, in a line."""
    said = machine(values)
    on = values.get("measured_on", {})
    precision = on.get("precision")
    if not precision:
        return said
    compiled = ", compiled layers" if on.get("compile") else ""
    threads = "1 thread" if on["threads"] == 1 else f"{on['threads']} threads"
    reference = f"; the reference in {on['reference_precision']}" if "reference_precision" in on else ""
    return f"{said} {precision}{compiled}{reference}; {threads}."


def number(value: float | None) -> str:
    """Three digits: 0.183, 12.4, 4,321; a dash for what was not measured."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, numbers to the right."""
    align = ["---", *("---:" for _ in header[1:])]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, align, *rows))
