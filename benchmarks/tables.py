"""The tables of docs/performance.md and docs/serving.md, from benchmarks/results/: no figure is typed by hand.

python -m benchmarks.tables            # print them
python -m benchmarks.tables --write    # put them between the documents' markers
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.loading import PARTS
from benchmarks.markdown import Values, about, number, table
from benchmarks.record import RESULTS, ROOT
from benchmarks.step_tables import features, schedule, speed
from minivlm.errors import UserError
from minivlm.files import read_json, write_text


def loader(values: Values) -> str:
    """Rows a second by workers, against what a step consumes."""
    loading = table(
        ("stage", "workers", "rows/s", "a step consumes", "ratio"),
        [
            (
                row["stage"],
                str(row["workers"]),
                number(row["rows_per_second"]),
                number(row["consumed_per_second"]),
                number(row["ratio"]),
            )
            for row in values["loading"]
        ],
    )
    decoding = table(
        ("JPEG", "ms", "pictures/s"),
        [
            (row["picture"], number(row["milliseconds"]), number(row["pictures_per_second"]))
            for row in values["decoding"]
        ],
    )
    return f"{about(values)}\n\n{loading}\n{decoding}"


def rows(values: Values) -> str:
    """Seconds, rows a second and peak memory by the number of rows."""
    measured = [
        (
            stage,
            f"{row['rows']:,}",
            number(row["seconds"]),
            "" if stage == "train" else number(row["rows_per_second"]),
            f"{row['peak_memory_bytes'] / 2**20:,.0f}",
        )
        for stage in ("validate", "tokenize", "train")
        for row in values.get(stage, ())
    ]
    return f"{about(values)}\n\n{table(('stage', 'rows', 'seconds', 'rows/s', 'peak memory, MiB'), measured)}"


def generation(values: Values) -> str:
    """Time to the first token and tokens a second."""
    measured = [
        (
            row["model"],
            str(row["batch"]),
            "on" if row["cache"] else "off",
            number(1000 * row["first_token_seconds"]),
            number(row["tokens_per_second"]),
        )
        for row in values["models"]
    ]
    shown = table(("model", "pictures at once", "cache", "first token, ms", "tokens/s"), measured)
    return f"{about(values)}\n\n{shown}"


def serving(values: Values) -> str:
    """Seconds until a server answers, until its first text, and tokens and answers a second."""
    measured = [
        (
            f"`{row['server']}`",
            row["model"],
            str(row["at_once"]),
            number(row["ready_seconds"]),
            number(1000 * row["first_token_seconds"]),
            number(row["tokens_per_second"]),
            number(row["answers_per_second"]),
        )
        for row in values["servers"]
    ]
    header = ("server", "model", "at once", "ready after, s", "first token, ms", "tokens/s", "answers/s")
    return f"{about(values)}\n\n{table(header, measured)}"


def loading(values: Values) -> str:
    """Seconds until a model can answer, and what takes them."""
    measured = [
        (
            row["model"],
            number(row["megabytes"]),
            *(number(row[f"{part}_seconds"]) for part in ("imports", "files", *PARTS, "ready", "processor_time")),
        )
        for row in values["models"]
    ]
    header = ("seconds", "MB", "imports", "loading", *PARTS.values(), "since the start", "processor time")
    return f"{about(values)}\n\n{table(header, measured)}"


def repro(values: Values) -> str:
    """Seconds of `dvc repro` with nothing to do, and what takes them."""
    seconds = table(
        ("command", "seconds"), [(row["command"], number(row["seconds"])) for row in values["commands"]]
    )
    parts = table(("part", "share"), [(row["part"], f"{row['share']:.0%}") for row in values["parts"]])
    return f"{about(values)}\n\n{seconds}\n{parts}"


def newcomer(values: Values) -> str:
    """Seconds of a newcomer's commands, and of all of them, with the environment that they made.

    A file without its size was recorded when `versions` were still those of the environment that measured.
    """
    measured = [(f"`{row['command']}`", number(row["seconds"])) for row in values["commands"]]
    shown = table(("command", "seconds"), [*measured, ("all", number(values["seconds"]))])
    if "environment_bytes" not in values:
        return f"{about({**values, 'versions': {**values['versions'], 'torch': None}})}\n\n{shown}"
    size = f"{values['environment_bytes'] / 1e9:.1f} GB"
    return f"{about(values)} The environment took {size} of disk.\n\n{shown}"


# Block → file and what makes the block of it.
BLOCKS: dict[str, tuple[str, Callable[[Values], str]]] = {
    "step": ("step", speed),
    "step_gpu": ("step_gpu", speed),
    "schedule": ("step", schedule),
    "features": ("features", features),
    "loader": ("loader", loader),
    "rows": ("rows", rows),
    "generation": ("generation", generation),
    "loading": ("loading", loading),
    "serving": ("serving", serving),
    "repro": ("repro", repro),
    "newcomer": ("newcomer", newcomer),
}
# Document → the blocks that stand in it.
DOCUMENTS = {
    ROOT / "docs" / "performance.md": tuple(name for name in BLOCKS if name != "serving"),
    ROOT / "docs" / "serving.md": ("serving",),
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


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", action="store_true", help="write the documents instead of printing")
    given = parser.parse_args(arguments)
    made = blocks(RESULTS)
    if given.write:
        for document, names in DOCUMENTS.items():
            its = {name: made[name] for name in names}
            write_text(document, filled(document.read_text(encoding="utf-8"), its, document.name))
    else:
        print("\n".join(f"## {name}\n\n{text}" for name, text in made.items()))


if __name__ == "__main__":
    from benchmarks.record import run

    run(main)
