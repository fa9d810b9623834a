"""Picture–caption pairs and conversations of the accepted rows, as the base models learn from them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minivlm.data.pictures import decode
from minivlm.data.rows import Row, accepted_rows, read_rows
from minivlm.data.shares import Purpose, is_chosen
from minivlm.data.tables import holds_lists

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

    def may_have_several(self) -> bool:
        """Whether a row may have several pictures, by the type of their column."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return holds_lists(pq.read_schema(self.table).field("image_bytes").type)
        except (pa.ArrowException, KeyError, OSError):
            return True  # whoever goes through the rows is told what is wrong with the file


def picture_key(row: Row) -> str:
    """sha256 of the row's first picture, in hex; of a row without one, that of its turns, as tokenize has it."""
    return hashlib.sha256(row.pictures[0] if row.pictures else repr(row.turns).encode()).hexdigest()


def linked_pictures(splits: Iterable[Iterable[Row]]) -> frozenset[str]:
    """The keys of all pictures of rows with several, over all splits that are trained on.

    None of them is validated on: such a row is trained on as a whole, and each of its pictures with it.
    """
    found: set[str] = set()
    for rows in splits:
        if isinstance(rows, AcceptedRows) and not rows.may_have_several():
            continue
        for row in rows:
            if len(row.pictures) > 1:
                found.update(hashlib.sha256(data).hexdigest() for data in row.pictures)
    return frozenset(found)


def is_validation(key: str, fraction: float, linked: Collection[str] = frozenset()) -> bool:
    """Whether the rows of a picture are kept for validation, by its hash, as tokenize has it.

    `linked`: those of `linked_pictures`, which are not.
    """
    return is_chosen(bytes.fromhex(key), Purpose.VALIDATION, fraction) and key not in linked


@dataclass(frozen=True)
class Pairs:
    """Distinct encoded pictures, and captions that name them by position."""

    pictures: list[bytes]
    picture: npt.NDArray[np.int64]  # (pairs,)
    captions: list[str]
    linked: frozenset[str] = frozenset()  # keys of pictures that are not validated on
    ids: Sequence[str] = ()  # the row of each pair

    @classmethod
    def read(cls, rows: Iterable[Row], linked: frozenset[str] = frozenset()) -> Pairs:
        """The first picture and the first answer of each row; rows without a picture are left out."""
        import numpy as np

        known: dict[bytes, int] = {}
        index: list[int] = []
        captions: list[str] = []
        ids: list[str] = []
        for row in rows:
            answer = next((turn.content for turn in row.turns if turn.role == "assistant"), None)
            if row.pictures and answer:
                index.append(known.setdefault(row.pictures[0], len(known)))
                captions.append(answer)
                ids.append(row.id)
        return cls(list(known), np.array(index, dtype=np.int64), captions, linked, ids)

    def held_back(self, fraction: float) -> npt.NDArray[np.bool_]:
        """Which pairs are kept for validation, (pairs,): those of the pictures that `is_validation` chooses."""
        import numpy as np

        keys = (hashlib.sha256(picture).hexdigest() for picture in self.pictures)
        kept = [is_validation(key, fraction, self.linked) for key in keys]
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
