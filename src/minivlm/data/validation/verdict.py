"""What the gate found in one table."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minivlm.data.validation.checks import CheckResult

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

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


def row_id(file: str, row: int) -> str:
    """A row's name in every report: `file:row number`."""
    return f"{file}:{row}"
