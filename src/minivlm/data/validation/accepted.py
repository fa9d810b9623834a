"""What is expected of the accepted row numbers, the table that validate hands on.

The file is read back as it was written, some ten thousand numbers at a time.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from minivlm.data.validation.checks import Check, faults_of
from minivlm.data.validation.engine import GreatExpectations
from minivlm.data.validation.parquet_rows import table_shape
from minivlm.data.validation.verdict import FileVerdict

if TYPE_CHECKING:
    import pandas as pd

COLUMN = "row"


def write_accepted(path: Path, verdict: FileVerdict) -> None:
    """The accepted row numbers as a Parquet file with the one column `row`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({COLUMN: pa.array(verdict.accepted_rows(), pa.int64())}), path)


def accepted_checks(rows: int, accepted: int) -> list[Check]:
    """Checks of the table as a whole, for a file of so many rows of which so many were accepted."""
    between, in_set = (f"ExpectColumnValuesToBe{kind}" for kind in ("Between", "InSet"))
    return [
        Check("row_is_int64", "type", "the table has the one column row, of type int64", "its columns are {value}",
              in_set, {"value_set": [f"{COLUMN}: int64"]}),
        Check("rows_ascend", "not_rising", "row numbers rise from line to line, so that none stands twice",
              "{value} row numbers are not above the one before", between, {"min_value": 0, "max_value": 0}),
        Check("rows_not_below", "lowest", "no row number is below 0", "row number {value}",
              between, {"min_value": 0}),
        Check("rows_not_beyond", "highest", f"every row number is one of the file's {rows:,} rows",
              f"row number {{value}}, and the file has {rows:,} rows", between, {"max_value": rows - 1}),
        Check("rows_as_reported", "rows", f"there are as many as the report says, {accepted:,}",
              f"{{value}} row numbers, and the report says {accepted:,}",
              between, {"min_value": accepted, "max_value": accepted}),
    ]  # fmt: skip


def accepted_frame(path: Path) -> "pd.DataFrame":
    """The frame of one line that the checks look at; what cannot be known of another column is missing."""
    import pandas as pd

    shape = table_shape(path)
    columns = ", ".join(f"{name}: {kind}" for name, kind in shape.types.items())
    numbers: Mapping[str, int | None] = _number_facts(path) if columns == f"{COLUMN}: int64" else {}
    told = {name: pd.array([numbers.get(name)], "Int64") for name in ("not_rising", "lowest", "highest")}
    return pd.DataFrame({"row": [0], "type": [columns], "rows": [shape.rows], **told})


def _number_facts(path: Path) -> dict[str, int | None]:
    """How many numbers are not above the one before, the lowest and the highest."""
    import numpy as np
    import pyarrow.parquet as pq

    not_rising, lowest, highest, before = 0, None, None, None
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=[COLUMN]):
            rows = batch.column(0).to_numpy(zero_copy_only=False)
            if before is not None:
                rows = np.concatenate([[before], rows])
            not_rising += int(np.count_nonzero(np.diff(rows) <= 0))
            lowest = min(int(rows.min()), rows[0] if lowest is None else lowest)
            highest = max(int(rows.max()), rows[0] if highest is None else highest)
            before = rows[-1]
    sides = {"lowest": lowest, "highest": highest}
    return {
        "not_rising": not_rising,
        **{name: None if side is None else int(side) for name, side in sides.items()},
    }


def check_accepted(
    engine: GreatExpectations, folder: Path, verdicts: Mapping[str, FileVerdict]
) -> dict[str, FileVerdict]:
    """The verdicts with the outcome of the checks on `folder`/<split>.parquet, which can still fail a file."""
    found = {}
    for split, verdict in verdicts.items():
        checks = accepted_checks(verdict.rows, verdict.accepted)
        frame = accepted_frame(folder / f"{split}.parquet")
        results = engine.run(f"{split}_accepted", frame, checks)
        faults = [f"of its accepted rows, {fault}" for fault in faults_of(results)]
        found[split] = replace(
            verdict,
            results=[*verdict.results, *(("accepted", result) for result in results)],
            table_faults=[*verdict.table_faults, *faults],
            passed=verdict.passed and not faults,
        )
    return found
