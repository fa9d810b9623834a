"""The gate: which rows of each file pass, which are rejected and why, and whether the file may be used.

A table check that fails, fails the file. Row checks quarantine: the rows at fault are left out of the accepted row
numbers, and the file fails when their share is over `max_bad_fraction`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.validation.checks import Check, CheckResult, faults_of, together
from minivlm.data.validation.engine import GreatExpectations
from minivlm.data.validation.expectations import Limits, row_checks, table_checks
from minivlm.data.validation.frame import PICTURE_COLUMNS
from minivlm.data.validation.metadata import MetadataReader
from minivlm.data.validation.parquet_rows import Rows, TableShape, table_rows, table_shape
from minivlm.data.validation.statistics import Statistics
from minivlm.paths import TRAIN_SPLITS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

MAX_LISTED = 10_000  # rejected rows listed in a report; the total is always stated


@dataclass(frozen=True)
class FileVerdict:
    """What the gate found in one file."""

    file: str
    rows: int
    rejected: dict[int, list[str]]  # row number -> every reason
    results: list[tuple[str, CheckResult]]  # (level: "table", "row" ..., result)
    table_faults: list[str]  # reasons why the file as a whole cannot be used
    passed: bool
    distributions: dict[str, Any] = field(default_factory=dict)
    scripts: dict[str, Any] = field(default_factory=dict)
    near_duplicates: dict[str, Any] | None = None  # counts; None where they were not searched
    origins: dict[int, str] = field(default_factory=dict)  # row number -> where a rejected row came from
    pictures: int = 0  # in all rows that can be read; one that repeats is counted each time
    text_rows: int = 0  # rows without a picture

    @property
    def accepted(self) -> int:
        """How many rows may be used."""
        return 0 if self.table_faults else self.rows - len(self.rejected)

    def accepted_rows(self) -> "npt.NDArray[np.int64]":
        """Their numbers, ascending."""
        import numpy as np

        is_accepted = np.full(self.rows, not self.table_faults)
        is_accepted[list(self.rejected)] = False
        return np.flatnonzero(is_accepted)


def check_tables(
    tables: Mapping[str, Path],
    *,
    limits: Limits,
    max_bad_fraction: float,
    workers: int,
    engine: GreatExpectations | None = None,
) -> dict[str, FileVerdict]:
    """Check Parquet files by their split's name (`pretrain`, `sft`, `heldout`, `compositional`).

    `max_bad_fraction` is the share of a file's rows that may be rejected before the file fails. UserError when a
    file is missing or not Parquet.
    """
    engine = engine or GreatExpectations()
    shapes = {file: table_shape(path) for file, path in tables.items()}
    found = {
        file: engine.run(f"{file}_table", shape_frame(shape), table_checks(shape))
        for file, shape in shapes.items()
    }
    gathered = {
        file: Findings(file, row_checks(limits, held_out=file not in TRAIN_SPLITS))
        for file, results in found.items()
        if all(result.success for result in results)
    }
    reader = MetadataReader(
        {file: table_rows(tables[file]) for file in gathered},
        train_files=TRAIN_SPLITS,
        max_side=limits.max_side,
        near_duplicate_bits=limits.near_duplicate_bits,
    )
    for file, frame in reader.frames(workers):
        gathered[file].add(engine, frame)
    for file, findings in gathered.items():
        findings.near_duplicates = reader.near_duplicates(file)
    return {
        file: verdict(file, shapes[file].rows, results, gathered.get(file), max_bad_fraction)
        for file, results in found.items()
    }


def check_rows(name: str, rows: Rows, *, limits: Limits, workers: int) -> FileVerdict:
    """Check the rows of one source that is not one of the pipeline's files, as rows of training are checked."""
    engine, gathered = GreatExpectations(), Findings(name, row_checks(limits, held_out=False))
    reader = MetadataReader({name: rows}, train_files=(name,), max_side=limits.max_side)
    for _, frame in reader.frames(workers):
        gathered.add(engine, frame)
    return verdict(name, rows.count, [], gathered, max_bad_fraction=0.0)


def shape_frame(shape: TableShape) -> "pd.DataFrame":
    """The frame of one line that table checks look at: the columns' types and the number of rows."""
    import pandas as pd

    return pd.DataFrame({**{name: [kind] for name, kind in shape.types.items()}, "rows": [shape.rows], "row": [0]})


class Findings:
    """What row checks find in one file, a piece of its metadata after another."""

    def __init__(self, file: str, checks: Sequence[Check]) -> None:
        self._suite, self._checks = f"{file}_rows", checks
        self._pieces: list[list[CheckResult]] = []
        self.rejected: dict[int, list[str]] = {}
        self.origins: dict[int, str] = {}
        self.statistics = Statistics()
        self.near_duplicates: dict[str, Any] | None = None

    def add(self, engine: GreatExpectations, frame: "pd.DataFrame") -> None:
        """Check the rows of a frame; `row` numbers them, and those of a frame follow each other."""
        results = engine.run(self._suite, frame, self._checks)
        self._pieces.append(results)
        first = int(frame["row"].iloc[0])
        rejected: dict[int, list[str]] = {}
        for result in results:
            for row, value in result.faults.items():
                rejected.setdefault(row, []).append(_reason(result.check, value, frame, row - first))
        self.rejected |= sorted(rejected.items())
        known = frame["origin"].iloc[[row - first for row in sorted(rejected)]].dropna()
        self.origins |= {first + int(place): str(origin) for place, origin in known.items()}
        self.statistics.add(frame)

    @property
    def results(self) -> list[CheckResult]:
        """Of each check over all pieces."""
        return together(self._pieces)


def verdict(
    file: str, rows: int, table: Sequence[CheckResult], found: Findings | None, max_bad_fraction: float
) -> FileVerdict:
    """The verdict on a file: `found` is None when a table check failed and its rows were not looked at."""
    faults = faults_of(table)
    results = [("table", result) for result in table]
    if found is None:
        return FileVerdict(file, rows, {}, results, faults, passed=False)
    rejected = found.rejected
    return FileVerdict(
        file=file,
        rows=rows,
        rejected=rejected,
        results=[*results, *(("row", result) for result in found.results)],
        table_faults=faults,
        # the quotient of two whole numbers rounds as the literal 0.29 does: 29 of 100 are not over 0.29
        passed=len(rejected) < rows and len(rejected) / rows <= max_bad_fraction,
        distributions=found.statistics.distributions(),
        scripts=found.statistics.scripts(),
        near_duplicates=found.near_duplicates,
        origins=found.origins,
        pictures=found.statistics.pictures,
        text_rows=found.statistics.text_rows,
    )


def _reason(check: Check, value: Any, frame: "pd.DataFrame", place: int) -> str:
    """Why a row is rejected; where it has several pictures and one is at fault, which."""
    which = ""
    if check.column in PICTURE_COLUMNS:
        number = frame[f"{check.column}_of"].astype("float").iloc[place]  # NaN: the row has one picture
        which = f"picture {number:.0f}: " if number == number else ""
    return f"{check.name}: {which}{check.reason.format(value=value)}"
