"""One check of a table, and how it ended.

A check holds for values that are missing: what could not be found out is the fault of another check.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """One expectation: `kind` is a class of great_expectations.expectations, `arguments` are its own."""

    name: str
    column: str
    meaning: str  # the sentence in the reports
    reason: str  # what is said of a row at fault; {value} is what was found
    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckResult:
    """How a check ended; `faults` has the value found for each line at fault by its number in the column `row`."""

    check: Check
    success: bool
    checked: int
    unexpected: int
    faults: dict[int, Any] = field(default_factory=dict)


def together(pieces: Iterable[Sequence[CheckResult]]) -> list[CheckResult]:
    """The results of a suite on a whole table, from those on its pieces; each piece has all checks."""
    return [
        CheckResult(
            check=parts[0].check,
            success=all(part.success for part in parts),
            checked=sum(part.checked for part in parts),
            unexpected=sum(part.unexpected for part in parts),
            faults={line: value for part in parts for line, value in part.faults.items()},
        )
        for parts in zip(*pieces, strict=True)
    ]


def faults_of(results: Iterable[CheckResult]) -> list[str]:
    """What failed of a table as a whole, in words."""
    return [
        f"{result.check.column}: {result.check.reason.format(value=next(iter(result.faults.values()), None))}"
        for result in results
        if not result.success
    ]
