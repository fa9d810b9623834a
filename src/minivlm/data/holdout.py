"""Which rows are held out where no file of held-out rows is given: by their picture, so that none is in training.

The sha256 of a picture decides (`minivlm.data.shares`): the choice depends on the picture alone, not on the order
of rows or on what else the files hold.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from minivlm.data.shares import Purpose, is_chosen
from minivlm.data.validation.conversation import conversation_facts
from minivlm.data.validation.picture import row_pictures

if TYPE_CHECKING:
    import pyarrow as pa

_Key = tuple[bytes, bytes | None]  # sha256 of a picture, and of the conversation with it


class Holdout:
    """Divides batches of rows into those of training and those held out.

    Held out are rows of one picture. Rows of text alone stay in training, and so do rows with several pictures,
    because evaluate asks about one; each of their pictures then stays in training wherever else it occurs. Rows
    at fault stay, so that the gate names them where they were looked for. A row that both training files have is
    held out once.

    Memory grows with the rows held out and with the pictures of rows with several: 100 to 200 bytes each.
    """

    def __init__(self, fraction: float) -> None:
        self._fraction = fraction
        self._linked: set[bytes] = set()  # sha256 of the pictures of rows with several
        self._earlier: set[_Key] = set()  # rows held out of the files before this one
        self._here: set[_Key] = set()

    def keep_linked(self, batch: pa.RecordBatch) -> None:
        """Note the pictures of rows with several; to be called with all rows before the first `divide`."""
        for value in batch.column("image_bytes").to_pylist():
            pictures = row_pictures(value)
            if len(pictures) > 1:
                self._linked.update(hashlib.sha256(data).digest() for data in pictures if data is not None)

    def next_file(self) -> None:
        """Say that the rows to come are another file's."""
        self._earlier |= self._here
        self._here = set()

    def divide(self, batch: pa.RecordBatch) -> tuple[Any, Any]:
        """Two masks over the rows of a batch: those that stay in training, those that go to the held-out file."""
        import pyarrow as pa

        stays, goes = [], []
        texts = batch.column("conversations").cast(pa.large_binary())
        for row, value in enumerate(batch.column("image_bytes").to_pylist()):
            picture = self._held(row_pictures(value))
            stays.append(picture is None)
            goes.append(picture is not None and self._is_new(picture, texts[row].as_py()))
        return pa.array(stays, pa.bool_()), pa.array(goes, pa.bool_())

    def _held(self, pictures: tuple[bytes | None, ...]) -> bytes | None:
        """The sha256 of a row's picture when the row is held out."""
        if len(pictures) != 1 or pictures[0] is None:
            return None
        digest = hashlib.sha256(pictures[0]).digest()
        held = is_chosen(digest, Purpose.HOLDOUT, self._fraction) and digest not in self._linked
        return digest if held else None

    def _is_new(self, picture: bytes, text: bytes | None) -> bool:
        key = (picture, conversation_facts(text).digest)
        self._here.add(key)
        return key not in self._earlier
