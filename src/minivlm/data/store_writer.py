"""Writing the stores that store.py reads, row by row.

What stays in memory is some forty bytes a row, and the hash and place of each distinct picture.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.store import FORMAT, PICTURES, TOKENS
from minivlm.files import write_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class PictureWriter:
    """Each distinct picture once, numbered in the order of coming."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self._data = (directory / "pictures.bin").open("wb")
        self._ids: dict[bytes, int] = {}  # sha256 -> id; ids ascend
        self._offsets = array("q", [0])

    def find(self, digest: bytes) -> int | None:
        """The id of a picture by its sha256; None when it was not added."""
        return self._ids.get(digest)

    def add(self, data: bytes) -> tuple[int, bytes]:
        """The picture's id and its sha256 (32 bytes); it is written when it is new."""
        digest = hashlib.sha256(data).digest()
        found = self._ids.setdefault(digest, len(self._ids))
        if found == len(self._offsets) - 1:
            self._data.write(data)
            self._offsets.append(self._offsets[-1] + len(data))
        return found, digest

    def close(self, sources: Sequence[str] = ()) -> None:
        """Write what remains; the store is complete then. `sources`: whose rows these are, none for drawn ones."""
        import numpy as np

        self._data.close()
        np.save(self._directory / "offsets.npy", np.array(self._offsets, np.int64))
        hashes = np.frombuffer(b"".join(self._ids), np.uint8).reshape(-1, 32)
        np.save(self._directory / "hashes.npy", hashes)
        counts = {"pictures": len(self._ids), "bytes": self._offsets[-1]}
        named = {"sources": list(sources)} if sources else {}
        write_json(self._directory / "meta.json", {"format": FORMAT, "kind": PICTURES, **counts, **named})


class TokenWriter:
    """The rows of one split."""

    def __init__(self, directory: Path, dtype: str) -> None:
        directory.mkdir(parents=True)
        self._directory, self._dtype = directory, dtype
        self._tokens = (directory / "tokens.bin").open("wb")
        self._mask = (directory / "mask.bin").open("wb")
        # Arrays of 8 bytes a number: a list's take four times as much.
        self.lengths, self.supervised, self._rows = array("q"), array("q"), array("q")
        self._pictures, self._picture_counts = array("q"), array("q")

    def add(
        self, number: int, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_], pictures: list[int]
    ) -> None:
        """One row: its number in the Parquet file, its tokens and mask (T,), the ids of its pictures."""
        self._tokens.write(ids.astype(self._dtype).tobytes())
        self._mask.write(mask.tobytes())
        self._rows.append(number)
        self.lengths.append(len(ids))
        self.supervised.append(int(mask.sum()))
        self._pictures.extend(pictures)
        self._picture_counts.append(len(pictures))

    def first_pictures(self) -> npt.NDArray[np.int64]:
        """The id of each row's first picture, (R,); -1 of a row without one."""
        import numpy as np

        counts = np.array(self._picture_counts, np.int64)
        first = np.full(len(counts), -1)
        first[counts > 0] = np.array(self._pictures, np.int64)[(np.cumsum(counts) - counts)[counts > 0]]
        return first

    def close(self, validation: npt.NDArray[np.bool_], meta: dict[str, Any]) -> None:
        """Write what remains; the store is complete then. `validation` (R,) marks the rows not to train on."""
        import numpy as np

        self._tokens.close()
        self._mask.close()
        arrays: dict[str, npt.NDArray[Any]] = {
            "offsets": np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64),
            "rows": np.array(self._rows, np.int64),
            "supervised": np.array(self.supervised, np.int32),
            "validation": validation,
            "pictures": np.array(self._pictures, np.int32),
            "picture_offsets": np.concatenate([[0], np.cumsum(self._picture_counts)]).astype(np.int64),
        }
        for name, values in arrays.items():
            np.save(self._directory / f"{name}.npy", values)
        counts = {
            "rows": len(self._rows),
            "tokens": sum(self.lengths),
            "supervised_tokens": sum(self.supervised),
            "validation_rows": int(validation.sum()),
        }
        meta = {"format": FORMAT, "kind": TOKENS, "dtype": self._dtype, **counts, **meta}
        write_json(self._directory / "meta.json", meta)
