"""Rows that tokenize cannot store: which and why, how they are listed, and when they are too many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minivlm.errors import UserError

MAX_LISTED = 10_000  # rows of a split in the list; their number is always stated
_SHOWN = 10  # row ids in an error message


@dataclass
class Quarantine:
    """The rows of one split that are left out, in the order of the file."""

    rows: int = 0  # gone through, those left out among them
    rejected: list[tuple[str, str]] = field(default_factory=list)  # (row id, reason)

    def is_over(self, max_bad_fraction: float) -> bool:
        """Whether more are left out than allowed, or nothing is left."""
        # The quotient of two whole numbers rounds as the literal 0.29 does: 29 of 100 are not over 0.29.
        return bool(self.rejected) and (self.is_empty or len(self.rejected) / self.rows > max_bad_fraction)

    @property
    def is_empty(self) -> bool:
        """Whether no row is left."""
        return len(self.rejected) == self.rows


def rejected_report(splits: Mapping[str, Quarantine]) -> dict[str, Any]:
    """What is listed, as plain values for JSON: of each split a number, and rows with their reasons."""
    return {
        "rejected": {
            split: {
                "count": len(found.rejected),
                "rows": [{"id": row, "reason": reason} for row, reason in found.rejected[:MAX_LISTED]],
            }
            for split, found in splits.items()
        }
    }


def check_quarantine(
    splits: Mapping[str, Quarantine], max_bad_fraction: float, max_length: int, listing: Path | None = None
) -> None:
    """UserError, one line with rows, bound and list, for the splits of which too much would be left out."""
    over = {split: found for split, found in splits.items() if found.is_over(max_bad_fraction)}
    if not over:
        return
    reasons: dict[str, list[str]] = {}
    for found in over.values():
        for row, reason in found.rejected:
            reasons.setdefault(reason, []).append(row)
    faults = []
    for reason, rows in reasons.items():
        more = f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
        faults.append(f"{reason}: {', '.join(rows[:_SHOWN])}{more}")
    shares = [f"{len(found.rejected):,} of {found.rows:,} rows of {split}" for split, found in over.items()]
    says = [
        f"rows are cut at tokenize.max_length = {max_length}",
        f"{', '.join(shares)} are at fault, and tokenize.max_bad_fraction = {max_bad_fraction:g}",
        *(f"no row of {split} is left" for split, found in over.items() if found.is_empty),
        *([f"the list is in {listing}"] if listing else []),
    ]
    raise UserError(f"{'; '.join(faults)} ({'; '.join(says)})")
