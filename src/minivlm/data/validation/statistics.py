"""What the rows of a file are like: sizes, lengths and scripts, added up piece by piece."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from minivlm.data.validation.frame import SCRIPTS

if TYPE_CHECKING:
    import pandas as pd

_SIZES = ("turns", "question_characters", "answer_characters", "longest_turn", "pictures", "width", "height")
_KINDS = ("format", "mode")


class Statistics:
    """Counts of each value: there are few, whatever the number of rows."""

    def __init__(self) -> None:
        self._values: dict[str, Counter[Any]] = {name: Counter() for name in (*_SIZES, *_KINDS)}
        self._characters: Counter[str] = Counter(dict.fromkeys(SCRIPTS, 0))

    def add(self, frame: "pd.DataFrame") -> None:
        """Count in the rows of a metadata frame; values that are missing are left out."""
        for name, counts in self._values.items():
            found = frame[name].value_counts()
            for value, count in zip(found.index.tolist(), found.tolist(), strict=True):
                counts[value] += count
        for name in SCRIPTS:
            self._characters[name] += int(frame[name].sum())

    def distributions(self) -> dict[str, Any]:
        """Minimum, median and maximum of what is countable, and how often each picture format and mode occurs."""
        found: dict[str, Any] = {}
        for name in _SIZES:
            if counts := self._values[name]:
                found[name] = {"min": min(counts), "median": median(counts), "max": max(counts)}
        for name in _KINDS:
            found[name] = dict(sorted(self._values[name].items()))
        return found

    def scripts(self) -> dict[str, Any]:
        """Characters without white space, and the share of each script in them (null when there is none)."""
        total = sum(self._characters.values())
        shares = {name: round(count / total, 4) if total else None for name, count in self._characters.items()}
        return {"characters": total, **shares}

    @property
    def pictures(self) -> int:
        """Pictures of all rows; one that repeats is counted each time."""
        return sum(number * count for number, count in self._values["pictures"].items())

    @property
    def text_rows(self) -> int:
        """Rows without a picture."""
        return self._values["pictures"][0]


def median(counts: Counter[int]) -> float:
    """The median of values of which so many of each are there."""
    middle, seen = sum(counts.values()), 0
    around = []
    for value in sorted(counts):
        seen += counts[value]
        if 2 * seen >= middle:
            around.append(value)
            if 2 * seen > middle:
                break
    return float(sum(around[:2]) / len(around[:2]))
