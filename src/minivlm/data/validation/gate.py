"""The gate: which rows of each file pass, which are rejected and why, and whether the file may be used.

A table check that fails, fails the file. Row checks quarantine: the rows at fault are left out of the accepted row
numbers, and the file fails when their share is over `max_bad_fraction`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from minivlm.data.validation.checks import CheckResult, faults_of
from minivlm.data.validation.engine import GreatExpectations
from minivlm.data.validation.expectations import Limits, row_checks, table_checks
from minivlm.data.validation.metadata import MetadataReader
from minivlm.data.validation.parquet_rows import Rows, TableShape, table_rows, table_shape
from minivlm.data.validation.row_findings import RowFindings
from minivlm.data.validation.verdict import FileVerdict
from minivlm.paths import TRAIN_SPLITS

if TYPE_CHECKING:
    import pandas as pd


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
        file: RowFindings(file, row_checks(limits, held_out=file not in TRAIN_SPLITS))
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
    engine, gathered = GreatExpectations(), RowFindings(name, row_checks(limits, held_out=False))
    reader = MetadataReader({name: rows}, train_files=(name,), max_side=limits.max_side)
    for _, frame in reader.frames(workers):
        gathered.add(engine, frame)
    return verdict(name, rows.count, [], gathered, max_bad_fraction=0.0)


def shape_frame(shape: TableShape) -> "pd.DataFrame":
    """The frame of one line that table checks look at: the columns' types and the number of rows."""
    import pandas as pd

    return pd.DataFrame({**{name: [kind] for name, kind in shape.types.items()}, "rows": [shape.rows], "row": [0]})


def verdict(
    file: str, rows: int, table: Sequence[CheckResult], found: RowFindings | None, max_bad_fraction: float
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
