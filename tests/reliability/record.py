"""docs/reliability.json: what was tried to break it, how often, and what was lost; one entry a kind.

Each command of this folder replaces the entry of its kind and writes the table of docs/reliability.md anew.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from minivlm import hardware
from minivlm.files import read_json, write_json, write_text

FILE = Path(__file__).resolve().parents[2] / "docs" / "reliability.json"
BEGIN, END = "<!-- reliability:begin -->", "<!-- reliability:end -->"


def unhandled(errors: str) -> bool:
    """Whether a process has met what nobody expected, by what it has written to stderr."""
    return "Traceback" in errors or "error: unexpected " in errors


def record(kind: str, values: dict[str, Any], file: Path = FILE) -> None:
    """Replace the entry of `kind`, those of the others stay; and write the table into the page beside it."""
    found = read_json(file) if file.exists() else {}
    found[kind] = values | {"cpu": hardware.cpu_model(), "cores": hardware.cores()}
    found = dict(sorted(found.items()))
    write_json(file, found)
    page = file.with_suffix(".md")
    if page.exists():
        write_text(page, with_table(page.read_text(encoding="utf-8"), found))


def with_table(text: str, found: dict[str, Any]) -> str:
    """The page with the table of all entries between its markers."""
    lines = [
        "| what was done to it | how often | what came of it | command |",
        "| --- | ---: | --- | --- |",
        *(f"| {' | '.join(cells)} |" for kind, values in found.items() for cells in rows(kind, values)),
    ]
    block = "\n".join((BEGIN, *lines, END))
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: block, text, flags=re.DOTALL)


def rows(kind: str, values: dict[str, Any]) -> list[tuple[str, ...]]:
    """The lines of one entry."""
    command = f"`{values['command']}`"
    if kind == "kills":
        came = (
            f"{values['survived']} survived, {values['resumed']} starts went on from a saved state: "
            f"the same bytes, one run; {_lost(values)}"
        )
        return [
            (f"SIGKILL at a random moment, of {values['trainings']} trainings", _n(values["kills"]), came, command)
        ]
    if kind == "faults":
        each = values["injected"] // len(values["handled"])
        return [
            (name, _n(each), f"{handled} ended in one line, nothing lost", command)
            for name, handled in values["handled"].items()
        ]
    if kind == "tracking":
        came = f"{values['metrics_lost']} metrics lost, {values['metrics_doubled']} doubled"
        what = f"tracking server away, slow or killed ({', '.join(values['databases'])}); metrics told"
        return [(what, _n(values["metrics_told"]), f"{values['scenarios']} scenarios: {came}", command)]
    if kind == "fuzz":
        came = f"{values['unhandled_exceptions']} unhandled; the others were read or refused in one line"
        return [("inputs, made and mutated", _n(values["inputs"]), came, command)]
    came = f"{_n(values['rows_per_second'])} rows a second, {_n(values['peak_MiB'])} MiB at most"
    return [("rows validated", _n(values["rows"]), came, command)]


def _lost(values: dict[str, Any]) -> str:
    return f"{values['lost_steps']} steps lost, {values['doubled_metrics']} metrics doubled"


def _n(value: float) -> str:
    return f"{value:,.0f}"
