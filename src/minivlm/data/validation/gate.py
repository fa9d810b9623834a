"""The gate: which rows of each file pass, which are rejected and why, and whether the file may be used.

A table check that fails, fails the file. Row checks quarantine: the rows at fault are left out of the accepted row
numbers, and the file fails when their share is over `max_bad_fraction`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.validation.expectations import (
    Check,
    CheckResult,
    GreatExpectations,
    Limits,
    row_checks,
    table_checks,
)
from minivlm.data.validation.frame import PICTURE_COLUMNS
from minivlm.data.validation.metadata import Rows, TableShape, read_metadata, table_rows, table_shape
from minivlm.paths import TRAIN_SPLITS

if TYPE_CHECKING:
    import pandas as pd

MAX_LISTED = 10_000  # rejected rows listed in a report; the total is always stated
_DISTRIBUTIONS = (
    *("turns", "question_characters", "answer_characters", "longest_turn", "pictures", "width", "height"),
)
_COUNTS = ("format", "mode")


@dataclass(frozen=True)
class FileVerdict:
    """What the gate found in one file."""

    file: str
    rows: int
    accepted: list[int]  # row numbers, ascending
    rejected: dict[int, list[str]]  # row number -> every reason
    results: list[tuple[str, CheckResult]]  # ("table" or "row", result)
    table_faults: list[str]  # reasons why the file as a whole cannot be used
    passed: bool
    distributions: dict[str, Any] = field(default_factory=dict)
    origins: dict[int, str] = field(default_factory=dict)  # row number -> where a rejected row came from
    pictures: int = 0  # in all rows that can be read; one that repeats is counted each time
    text_rows: int = 0  # rows without a picture


def check_tables(
    tables: Mapping[str, Path], *, limits: Limits, max_bad_fraction: float, workers: int, docs: Path | None = None
) -> dict[str, FileVerdict]:
    """Check Parquet files by their split's name (`pretrain`, `sft`, `heldout`, `compositional`).

    `max_bad_fraction` is the share of a file's rows that may be rejected before the file fails. With `docs`, Great
    Expectations writes its Data Docs into that folder. UserError when a file is missing or not Parquet.
    """
    shapes = {file: table_shape(path) for file, path in tables.items()}
    engine = GreatExpectations(docs)
    found = {
        file: engine.run(f"{file}_table", _shape_frame(shape), table_checks(shape))
        for file, shape in shapes.items()
    }
    readable = {
        file: table_rows(tables[file])
        for file, results in found.items()
        if all(result.success for result in results)
    }
    frames = read_metadata(readable, train_files=TRAIN_SPLITS, max_side=limits.max_side, workers=workers)
    verdicts = {}
    for file, table_results in found.items():
        frame = frames.get(file)
        results = [("table", result) for result in table_results]
        if frame is not None:
            checks = row_checks(limits, held_out=file not in TRAIN_SPLITS)
            results += [("row", result) for result in engine.run(f"{file}_rows", frame, checks)]
        verdicts[file] = _verdict(file, shapes[file].rows, frame, results, max_bad_fraction)
    if docs:
        engine.build_docs()
    return verdicts


def check_rows(name: str, rows: Rows, *, limits: Limits, workers: int) -> FileVerdict:
    """Check the rows of one source that is not one of the pipeline's files, as rows of training are checked."""
    frame = read_metadata({name: rows}, train_files=(name,), max_side=limits.max_side, workers=workers)[name]
    found = GreatExpectations().run(f"{name}_rows", frame, row_checks(limits, held_out=False))
    return _verdict(name, len(frame), frame, [("row", result) for result in found], max_bad_fraction=0.0)


def _shape_frame(shape: TableShape) -> "pd.DataFrame":
    """The frame of one line that table checks look at: the columns' types and the number of rows."""
    import pandas as pd

    return pd.DataFrame({**{name: [kind] for name, kind in shape.types.items()}, "rows": [shape.rows], "row": [0]})


def _verdict(
    file: str,
    rows: int,
    frame: "pd.DataFrame | None",
    results: list[tuple[str, CheckResult]],
    max_bad_fraction: float,
) -> FileVerdict:
    table_faults = [
        f"{result.check.column}: {result.check.reason}"
        for level, result in results
        if level == "table" and not result.success
    ]
    rejected: dict[int, list[str]] = {}
    for level, result in results:
        for row, value in result.faults.items() if level == "row" else ():
            rejected.setdefault(row, []).append(_reason(result.check, row, value, frame))
    accepted = [] if frame is None else [row for row in range(rows) if row not in rejected]
    # the quotient of two whole numbers rounds as the literal 0.29 does: 29 of 100 are not over 0.29
    passed = bool(accepted) and len(rejected) / rows <= max_bad_fraction
    return FileVerdict(
        file=file,
        rows=rows,
        accepted=accepted,
        rejected=dict(sorted(rejected.items())),
        results=results,
        table_faults=table_faults,
        passed=passed,
        distributions={} if frame is None else _distributions(frame),
        origins={} if frame is None else _origins(frame, rejected),
        pictures=0 if frame is None else int(frame["pictures"].sum()),
        text_rows=0 if frame is None else int((frame["pictures"] == 0).sum()),
    )


def _reason(check: Check, row: int, value: Any, frame: "pd.DataFrame | None") -> str:
    """Why a row is rejected; where it has several pictures and one is at fault, which."""
    which = ""
    if frame is not None and check.column in PICTURE_COLUMNS:
        number = frame[f"{check.column}_of"].astype("float").iloc[row]  # NaN: the row has one picture
        which = f"picture {number:.0f}: " if number == number else ""
    return f"{check.name}: {which}{check.reason.format(value=value)}"


def _origins(frame: "pd.DataFrame", rejected: Mapping[int, Any]) -> dict[int, str]:
    known = frame["origin"].iloc[sorted(rejected)].dropna()
    return {int(row): str(origin) for row, origin in known.items()}


def _distributions(frame: "pd.DataFrame") -> dict[str, Any]:
    """Minimum, median and maximum of what is countable, and how often each picture format and mode occurs."""
    found: dict[str, Any] = {}
    for name in _DISTRIBUTIONS:
        values = frame[name].dropna()
        if len(values):
            found[name] = {"min": int(values.min()), "median": float(values.median()), "max": int(values.max())}
    for name in _COUNTS:
        counts = frame[name].dropna().value_counts()
        found[name] = {str(value): int(count) for value, count in sorted(counts.items())}
    return found
