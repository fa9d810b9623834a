"""The distinct pictures of all files: their facts and who shows them, some sixty bytes each.

Pictures are numbered in the order in which their bytes come for the first time.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from minivlm.data.validation.digests import DigestIndex
from minivlm.data.validation.picture import MISSING, PictureFacts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

NO_PICTURE = -1  # the number of one that should be there
_UNKNOWN = -1


class PictureTable:
    """What is known of every distinct picture by its number."""

    def __init__(self) -> None:
        self._index = DigestIndex()
        self._texts: dict[str | None, int] = {None: 0}  # decodings, formats and modes are few
        self._names: list[str | None] = [None]
        self._columns = tuple(array("i") for _ in range(5))  # decoding, format, mode, width, height
        self._likeness = array("Q")
        self._first_row = array("q")  # the first training row that shows it

    def numbers(self, digests: Sequence[bytes]) -> list[int]:
        """The number of each picture by its sha256; facts of those that are new have to follow, in that order."""
        return self._index.numbers(digests)

    def __len__(self) -> int:
        return len(self._index)

    def add(self, facts: PictureFacts) -> None:
        """The facts of the next picture."""
        texts = (self._code(text) for text in facts[:3])
        sides = (_UNKNOWN if side is None else side for side in (facts.width, facts.height))
        for column, value in zip(self._columns, (*texts, *sides), strict=True):
            column.append(value)
        self._likeness.append(facts.likeness or 0)
        self._first_row.append(_UNKNOWN)

    def _code(self, text: str | None) -> int:
        code = self._texts.setdefault(text, len(self._names))
        if code == len(self._names):
            self._names.append(text)
        return code

    def facts(self, number: int) -> PictureFacts:
        """The facts of one picture but its hash; MISSING for NO_PICTURE."""
        if number == NO_PICTURE:
            return MISSING
        decoding, form, mode, width, height = (column[number] for column in self._columns)
        sides = (None if side == _UNKNOWN else side for side in (width, height))
        return PictureFacts(self._names[decoding], self._names[form], self._names[mode], *sides)

    def trained_on(self, numbers: Iterable[int], row: int) -> None:
        """Note that a training row shows these pictures; rows come in their order."""
        for number in numbers:
            if number != NO_PICTURE and self._first_row[number] == _UNKNOWN:
                self._first_row[number] = row

    def first_row(self, number: int) -> int | None:
        """The first training row that shows a picture."""
        row = _UNKNOWN if number == NO_PICTURE else self._first_row[number]
        return None if row == _UNKNOWN else row

    def likeness_of(self, numbers: Sequence[int]) -> npt.NDArray[np.uint64]:
        """The hashes of pictures; 0 where there is none."""
        import numpy as np

        return np.array([self._likeness[number] for number in numbers], np.uint64)

    def training_likeness(self) -> npt.NDArray[np.uint64]:
        """The hash of every picture, by its number; 0 where no training row shows it."""
        import numpy as np

        shown = np.array(self._first_row, np.int64) != _UNKNOWN
        return np.where(shown, np.array(self._likeness, np.uint64), np.uint64(0))
