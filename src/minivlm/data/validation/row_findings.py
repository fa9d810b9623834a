"""What the checks of rows find in a raw file, and what its rows are like."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minivlm.data.validation.checks import Check
from minivlm.data.validation.engine import GreatExpectations
from minivlm.data.validation.findings import Findings
from minivlm.data.validation.frame import PICTURE_COLUMNS
from minivlm.data.validation.statistics import Statistics

if TYPE_CHECKING:
    import pandas as pd


class RowFindings(Findings):
    """Of the rows of a raw file, which follow each other in a frame: also their origins and what they are like."""

    def __init__(self, file: str, checks: Sequence[Check]) -> None:
        super().__init__(f"{file}_rows", checks)
        self.origins: dict[int, str] = {}
        self.statistics = Statistics()
        self.near_duplicates: dict[str, Any] | None = None

    def add(self, engine: GreatExpectations, frame: "pd.DataFrame") -> list[int]:
        """The same; statistics and the origins of the rows at fault are kept."""
        rejected = super().add(engine, frame)
        first = int(frame["row"].iloc[0])
        known = frame["origin"].iloc[[row - first for row in rejected]].dropna()
        self.origins |= {first + int(place): str(origin) for place, origin in known.items()}
        self.statistics.add(frame)
        return rejected

    def which(self, check: Check, row: int, frame: "pd.DataFrame") -> str:
        """Where a row has several pictures and one is at fault, that one."""
        if check.column not in PICTURE_COLUMNS:
            return ""
        place = row - int(frame["row"].iloc[0])
        number = frame[f"{check.column}_of"].astype("float").iloc[place]  # NaN: the row has one picture
        return f"picture {number:.0f}: " if number == number else ""
