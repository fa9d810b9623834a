"""The tables of docs/performance.md, from benchmarks/results/: no figure in it is typed by hand.

python -m benchmarks.tables            # print them
python -m benchmarks.tables --write    # put them between the document's markers
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, ROOT
from minivlm.errors import UserError
from minivlm.evaluation.page.benchmarks import PARTS, machine
from minivlm.files import read_json, write_text

DOCUMENT = ROOT / "docs" / "performance.md"
STAGES = ("pretrain", "sft")
SIDES = {"ours": "this project", "reference": "reference"}
PUBLISHED = {"pretrain": 2.5, "sft": 2.0, "total": 4.5}
"""Hours on one RTX 4090, as the original's README has them."""

Values = Mapping[str, Any]


def speed(step: Values) -> str:
    """Samples a second of both sides and their ratio; what is computed for a row; where the time goes."""
    stages = {stage: step[stage] for stage in STAGES if stage in step}
    speeds = _table(
        ("stage", "this project, samples/s", "reference", "ratio", "of single repeats", "padding", "TFLOP/s"),
        [
            (
                stage,
                _n(each["samples_per_second"]),
                _n(each["reference_samples_per_second"]),
                f"**{each['ratio']:.1f}**",
                " to ".join(f"{ratio:.1f}" for ratio in each["ratio_range"]),
                f"{each['padding_share']:.1%}",
                _n(each["operations_per_second"] / 1e12),
            )
            for stage, each in stages.items()
        ],
    )
    speeds += _memory(stages)
    counts = _table(
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
    times = _table(
        ("milliseconds a sample", "side", *PARTS.values(), "sum"),
        [
            (stage, SIDES[side], *(_n(ms[part]) for part in PARTS), _n(sum(ms.values())))
            for stage, each in stages.items()
            for side, ms in each["parts"].items()
        ],
    )
    return f"{_about(step)}\n\n{speeds}\n{times}\n{counts}"


def _memory(stages: Mapping[str, Values]) -> str:
    """Peak memory of a GPU, less what the other side holds there meanwhile; empty for a CPU."""
    if not any(each["peak_memory_bytes"] for each in stages.values()):
        return ""
    peaks = [
        (stage, *(_n(each[key] / 2**30) for key in ("peak_memory_bytes", "reference_peak_memory_bytes")))
        for stage, each in stages.items()
    ]
    return "\n" + _table(("peak memory, GiB", "this project", "reference"), peaks)


def schedule(step: Values) -> str:
    """Hours of the original's whole training: published, measured on a GPU, and computed from peaks."""
    found = step["schedule"]
    rows = [("the original, as published", "RTX 4090", *(f"{PUBLISHED[key]:g}" for key in PUBLISHED), "")]
    if measured := found["measured"]:
        for side, name in SIDES.items():
            hours = measured[f"{side}_hours"]
            mfu = measured["mfu"] if side == "ours" else None
            share = "" if mfu is None else ", ".join(f"{mfu[stage]:.2f}" for stage in STAGES)
            rows.append((name, measured["device"], *(_n(hours[key]) for key in PUBLISHED), share))
    operations = sum(found["operations"].values())
    for device, each in found["devices"].items():
        rows.append(("at the peak, computed", device, *_shared(found, each["hours_at_peak"]), "1"))
        between = f"{_n(each['hours'])} ({_n(each['hours_low'])} to {_n(each['hours_high'])})"
        mfu_range = f"{each['assumed_mfu']:.2f} ({each['mfu_high']:.2f} to {each['mfu_low']:.2f})"
        rows.append(("projected", device, "", "", between, mfu_range))
    table = _table(("hours", "device", *PUBLISHED, "MFU"), rows)
    assumed = next(iter(found["devices"].values()))["mfu_from"]
    return f"{operations / 1e15:,.0f} PFLOP in all; MFU of the projections {assumed}.\n\n{table}"


def features(values: Values) -> str:
    """Samples a second without and with kept features, and what keeping them takes."""
    speeds = _table(
        ("stage", "tower computed, samples/s", "features read", "ratio", "of single repeats"),
        [
            (
                stage,
                _n(values[stage]["samples_per_second"]),
                _n(values[stage]["kept_samples_per_second"]),
                f"**{values[stage]['ratio']:.2f}**",
                " to ".join(f"{ratio:.2f}" for ratio in values[stage]["ratio_range"]),
            )
            for stage in STAGES
            if stage in values
        ],
    )
    kept = (_n(values["fill_pictures_per_second"]), _n(values["megabytes_per_picture"]))
    return f"{_about(values)}\n\n{speeds}\n{_table(('filled, pictures/s', 'MB a picture on disk'), [kept])}"


def loader(values: Values) -> str:
    """Rows a second by workers, against what a step consumes."""
    loading = _table(
        ("stage", "workers", "rows/s", "a step consumes", "ratio"),
        [
            (
                row["stage"],
                str(row["workers"]),
                _n(row["rows_per_second"]),
                _n(row["consumed_per_second"]),
                _n(row["ratio"]),
            )
            for row in values["loading"]
        ],
    )
    decoding = _table(
        ("JPEG", "ms", "pictures/s"),
        [(row["picture"], _n(row["milliseconds"]), _n(row["pictures_per_second"])) for row in values["decoding"]],
    )
    return f"{_about(values)}\n\n{loading}\n{decoding}"


def rows(values: Values) -> str:
    """Seconds, rows a second and peak memory by the number of rows."""
    measured = [
        (
            stage,
            f"{row['rows']:,}",
            _n(row["seconds"]),
            "" if stage == "train" else _n(row["rows_per_second"]),
            f"{row['peak_memory_bytes'] / 2**20:,.0f}",
        )
        for stage in ("validate", "tokenize", "train")
        for row in values.get(stage, ())
    ]
    return f"{_about(values)}\n\n{_table(('stage', 'rows', 'seconds', 'rows/s', 'peak memory, MiB'), measured)}"


def generation(values: Values) -> str:
    """Time to the first token and tokens a second."""
    measured = [
        (
            row["model"],
            str(row["batch"]),
            "on" if row["cache"] else "off",
            _n(1000 * row["first_token_seconds"]),
            _n(row["tokens_per_second"]),
        )
        for row in values["models"]
    ]
    table = _table(("model", "pictures at once", "cache", "first token, ms", "tokens/s"), measured)
    return f"{_about(values)}\n\n{table}"


def repro(values: Values) -> str:
    """Seconds of `dvc repro` with nothing to do, and what takes them."""
    seconds = _table(("command", "seconds"), [(row["command"], _n(row["seconds"])) for row in values["commands"]])
    parts = _table(("part", "share"), [(row["part"], f"{row['share']:.0%}") for row in values["parts"]])
    return f"{_about(values)}\n\n{seconds}\n{parts}"


# Block → file and what makes the block of it.
BLOCKS: dict[str, tuple[str, Callable[[Values], str]]] = {
    "step": ("step", speed),
    "step_gpu": ("step_gpu", speed),
    "schedule": ("step", schedule),
    "features": ("features", features),
    "loader": ("loader", loader),
    "rows": ("rows", rows),
    "generation": ("generation", generation),
    "repro": ("repro", repro),
}


def blocks(results: Path) -> dict[str, str]:
    """The text of every block; of files that are not there, the command that writes them."""
    made = {}
    for name, (file, make) in BLOCKS.items():
        path = results / f"{file}.json"
        if name == "schedule" and (results / "step_gpu.json").exists():
            path = results / "step_gpu.json"
        command = "step --device cuda" if file == "step_gpu" else file
        made[name] = (
            make(read_json(path)) if path.exists() else f"Not measured yet: `python -m benchmarks.{command}`.\n"
        )
    return made


def filled(text: str, made: Mapping[str, str], name: str) -> str:
    """`text` with every block between its markers replaced; UserError for a block without its two markers."""
    for block, content in made.items():
        begin, end = f"<!-- {block}:begin -->", f"<!-- {block}:end -->"
        pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise UserError(f"{name}: needs one line {begin} and after it one line {end}")
        text = pattern.sub(lambda _, new=f"{begin}\n{content}{end}": new, text)  # type: ignore[misc]
    return text


def _shared(found: Values, hours: float) -> tuple[str, ...]:
    """Hours by stage as their operations share them, and the total."""
    whole = sum(found["operations"].values())
    return (*(_n(hours * found["operations"][stage] / whole) for stage in STAGES), _n(hours))


def _about(values: Values) -> str:
    said = machine(values)
    on = values.get("measured_on", {})
    precision = on.get("precision")
    if not precision:
        return said
    compiled = ", compiled layers" if on.get("compile") else ""
    threads = "1 thread" if on["threads"] == 1 else f"{on['threads']} threads"
    reference = f"; the reference in {on['reference_precision']}" if "reference_precision" in on else ""
    return f"{said} {precision}{compiled}{reference}; {threads}."


def _n(value: float | None) -> str:
    """Three digits: 0.183, 12.4, 4,321; a dash for what was not measured."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    align = ["---", *("---:" for _ in header[1:])]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, align, *rows))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", action="store_true", help="write docs/performance.md instead of printing")
    given = parser.parse_args(arguments)
    made = blocks(RESULTS)
    if given.write:
        write_text(DOCUMENT, filled(DOCUMENT.read_text(encoding="utf-8"), made, DOCUMENT.name))
    else:
        print("\n".join(f"## {name}\n\n{text}" for name, text in made.items()))


if __name__ == "__main__":
    from benchmarks.record import run

    run(main)
