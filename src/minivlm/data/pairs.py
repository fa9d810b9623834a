"""Picture–caption pairs and conversations of the accepted rows, as the base models learn from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minivlm.data.pictures import decode
from minivlm.data.rows import Row, accepted_rows, read_rows
from minivlm.data.shares import Purpose, is_chosen

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_CACHE_BYTES = 1 << 30


@dataclass(frozen=True)
class AcceptedRows:
    """The accepted rows of a Parquet file; read anew, some hundred at a time, whenever they are gone through."""

    table: Path
    accepted: Path

    def __iter__(self) -> Iterator[Row]:
        for rows in read_rows(self.table, accepted_rows(self.accepted)):
            yield from rows


def picture_key(row: Row) -> str:
    """sha256 of the row's first picture, in hex; of a row without one, that of its turns, as tokenize has it."""
    return hashlib.sha256(row.pictures[0] if row.pictures else repr(row.turns).encode()).hexdigest()


def is_validation(key: str, fraction: float) -> bool:
    """Whether the rows of a picture are kept for validation, by its hash, as tokenize has it."""
    return is_chosen(bytes.fromhex(key), Purpose.VALIDATION, fraction)


@dataclass(frozen=True)
class Pairs:
    """Distinct encoded pictures, and captions that name them by position."""

    pictures: list[bytes]
    picture: npt.NDArray[np.int64]  # (pairs,)
    captions: list[str]

    @classmethod
    def read(cls, rows: Iterable[Row]) -> Pairs:
        """The first picture and the first answer of each row; rows without a picture are left out."""
        import numpy as np

        known: dict[bytes, int] = {}
        index: list[int] = []
        captions: list[str] = []
        for row in rows:
            answer = next((turn.content for turn in row.turns if turn.role == "assistant"), None)
            if row.pictures and answer:
                index.append(known.setdefault(row.pictures[0], len(known)))
                captions.append(answer)
        return cls(list(known), np.array(index, dtype=np.int64), captions)

    def held_back(self, fraction: float) -> npt.NDArray[np.bool_]:
        """Which pairs are kept for validation, (pairs,): those of the pictures that `is_validation` chooses."""
        import numpy as np

        kept = [is_validation(hashlib.sha256(picture).hexdigest(), fraction) for picture in self.pictures]
        return np.array(kept, dtype=bool)[self.picture]


class DecodedPictures:
    """Encoded pictures, decoded to `side` pixels when asked for and then kept, up to a GiB."""

    def __init__(self, pictures: Sequence[bytes], side: int) -> None:
        self._pictures, self._side = pictures, side
        self._kept: dict[int, npt.NDArray[np.uint8]] = {}
        self._most = _CACHE_BYTES // (3 * side * side)

    def __getitem__(self, i: int) -> npt.NDArray[np.uint8]:
        """Picture i as uint8 (3, side, side)."""
        if i in self._kept:
            return self._kept[i]
        pixels = decode(self._pictures[i], self._side)
        if len(self._kept) < self._most:
            self._kept[i] = pixels
        return pixels
