"""What the checks of rows find in one table, a piece of its metadata after another."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from minivlm.data.validation.checks import Check, CheckResult, together
from minivlm.data.validation.engine import GreatExpectations

if TYPE_CHECKING:
    import pandas as pd

PIECE_ROWS = 32_768  # of a frame: Great Expectations needs some hundred bytes for each


class Findings:
    """Results of a suite, and the rows at fault with every reason."""

    def __init__(self, suite: str, checks: Sequence[Check]) -> None:
        self._suite, self._checks = suite, checks
        self._pieces: list[list[CheckResult]] = []
        self.rejected: dict[int, list[str]] = {}  # by row number, ascending
        self._told: dict[tuple[str, ...], list[str]] = {}  # many rows have the same reasons: these are kept once

    def add(self, engine: GreatExpectations, frame: "pd.DataFrame") -> list[int]:
        """Check the rows of a frame, which come after those of the last one; the numbers of those at fault."""
        results = engine.run(self._suite, frame, self._checks)
        self._pieces.append([replace(result, faults={}) for result in results])
        rejected: dict[int, list[str]] = {}
        for result in results:
            for row, value in result.faults.items():
                reason = result.check.reason.format(value=value)
                told = f"{result.check.name}: {self.which(result.check, row, frame)}{reason}"
                rejected.setdefault(row, []).append(told)
        self.rejected |= {row: self._told.setdefault(tuple(told), told) for row, told in sorted(rejected.items())}
        return sorted(rejected)

    def which(self, check: Check, row: int, frame: "pd.DataFrame") -> str:
        """Which part of a row a check speaks of, "" for the row itself."""
        return ""

    @property
    def results(self) -> list[CheckResult]:
        """Of each check over all pieces; `rejected` has what was found of each row."""
        return together(self._pieces)
