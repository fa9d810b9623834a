"""Verdicts -> what is written: a JSON report per file, the metrics, and the one line a failing stage ends with.

Nothing here holds a time, a run id or a path: the same rows give the same bytes.
"""

from collections.abc import Iterable
from typing import Any

from minivlm.data.validation.checks import CheckResult
from minivlm.data.validation.verdict import MAX_LISTED, FileVerdict, row_id

_NAMED_IN_ERROR = 5


def file_report(verdict: FileVerdict, max_bad_fraction: float) -> dict[str, Any]:
    """The report of one file, as plain values for JSON."""
    listed = rejected_entries(verdict)
    return {
        "file": verdict.file,
        "present": True,
        "passed": verdict.passed,
        "rows": verdict.rows,
        "accepted": verdict.accepted,
        "rejected": len(verdict.rejected),
        "max_bad_fraction": max_bad_fraction,
        "table_faults": verdict.table_faults,
        "expectations": [expectation_entry(level, result) for level, result in verdict.results],
        "rejected_rows_listed": len(listed),
        "rejected_rows": listed,
        "distributions": verdict.distributions,
        "scripts": verdict.scripts,
        "near_duplicates": verdict.near_duplicates,
    }


def absent_report(file: str) -> dict[str, Any]:
    """The report of an optional file that is not there; written so that the set of outputs is always the same."""
    return {"file": file, "present": False, "passed": True, "rows": 0, "accepted": 0, "rejected": 0}


def rejected_entries(verdict: FileVerdict) -> list[dict[str, Any]]:
    """The rejected rows with their reasons, MAX_LISTED at most."""
    return [_rejected(verdict, row, reasons) for row, reasons in list(verdict.rejected.items())[:MAX_LISTED]]


def _rejected(verdict: FileVerdict, row: int, reasons: list[str]) -> dict[str, Any]:
    """One rejected row; `origin` is its id in the file that it came from, where the download moved rows."""
    origin = {"origin": verdict.origins[row]} if row in verdict.origins else {}
    return {"id": row_id(verdict.file, row), **origin, "reasons": reasons}


def expectation_entry(level: str, result: CheckResult) -> dict[str, Any]:
    """One check and its outcome."""
    return {
        "name": result.check.name,
        "level": level,
        "meaning": result.check.meaning,
        "success": result.success,
        "checked": result.checked,
        "unexpected": result.unexpected,
    }


def metrics(verdicts: Iterable[FileVerdict]) -> dict[str, dict[str, int]]:
    """Rows, accepted and rejected of each file: DVC's metrics."""
    return {
        verdict.file: {
            "rows": verdict.rows,
            "accepted": verdict.accepted,
            "rejected": len(verdict.rejected),
        }
        for verdict in verdicts
    }


def failure(verdicts: Iterable[FileVerdict], max_bad_fraction: float, reports: str) -> str | None:
    """One line about the first file that fails (others are named), or None when all pass.

    `reports` is the folder of the reports, as the reader should see it.
    """
    failed = [verdict for verdict in verdicts if not verdict.passed]
    if not failed:
        return None
    first, others = failed[0], [verdict.file for verdict in failed[1:]]
    also = f"; {', '.join(others)} failed too" if others else ""
    full = f"{reports}/{first.file}.json"
    if first.table_faults:
        return f"{first.file}.parquet cannot be used: {'; '.join(first.table_faults)} (see {full}){also}"
    named = [f"{row_id(first.file, row)} ({reasons[0]})" for row, reasons in first.rejected.items()]
    shown = ", ".join(named[:_NAMED_IN_ERROR]) + (", ..." if len(named) > _NAMED_IN_ERROR else "")
    advice = "mend them or raise validate.max_bad_fraction" if first.accepted else "no row is left: mend them"
    return (
        f"{first.file}: {len(first.rejected)} of {first.rows} rows are at fault "
        f"(validate.max_bad_fraction is {max_bad_fraction:g}): {shown}; the list is in {full}; {advice}{also}"
    )
