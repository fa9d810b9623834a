"""Rows -> metadata frames: a few small columns per row, never the pictures themselves.

Rows are streamed in record batches. The parent hashes the pictures and hands each distinct one to a worker
process once; conversations are looked at by the same workers. Results come back in the order of the rows whatever
the number of workers, so the frames are the same for one worker and for many. A frame holds some ten thousand rows
and is gone when the next one comes: what grows with the rows are hashes, some tens of bytes each.
"""

import hashlib
import sys
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minivlm.data.validation.conversation import ConversationFacts, conversation_facts
from minivlm.data.validation.findings import PIECE_ROWS
from minivlm.data.validation.frame import FirstRows, Known, Piece, metadata_frame
from minivlm.data.validation.likeness import BITS, LikenessIndex, perceptual_hash
from minivlm.data.validation.parquet_rows import Rows
from minivlm.data.validation.picture import MAX_PICTURES, PictureFacts, picture_facts, row_pictures
from minivlm.data.validation.picture_table import NO_PICTURE, PictureTable
from minivlm.data.validation.verdict import row_id
from minivlm.errors import UserError
from minivlm.parallel import ordered_map

if TYPE_CHECKING:
    import pandas as pd

_ROWS_PER_WORKER = 2048  # below this, starting a process costs more than it saves
_ROW_BITS = 40  # of a number that is a file and a row


@dataclass(frozen=True)
class _Task:
    """One record batch on its way to a worker."""

    conversations: list[bytes | None]
    new_pictures: list[bytes]  # those that no earlier task holds
    max_side: int
    likeness: bool


def _inspect(task: _Task) -> tuple[list[ConversationFacts], list[PictureFacts]]:
    """The work of a worker process."""
    likeness = perceptual_hash if task.likeness else None
    conversations = [conversation_facts(raw) for raw in task.conversations]
    return conversations, [picture_facts(data, task.max_side, likeness) for data in task.new_pictures]


@dataclass
class Alike:
    """What came of holding the pictures of a file against those of training."""

    compared: set[int] = field(
        default_factory=set
    )  # distinct pictures, by number; the same ones are leakage anyway
    found: dict[int, tuple[str, int]] = field(default_factory=dict)  # of these: training row, bits that differ

    def counts(self, bits: int) -> dict[str, Any]:
        """Pictures compared, those with one alike, and these by the bits that differ."""
        by_bits = Counter(differing for _, differing in self.found.values())
        told = {str(differing): by_bits[differing] for differing in sorted(by_bits)}
        return {"bits": bits, "compared": len(self.compared), "alike": len(self.found), "by_bits": told}


class MetadataReader:
    """Rows of all files on their way: to the workers as tasks, and with what these found into frames.

    `train_files` are those whose pictures no other file may show; they come first. With `near_duplicate_bits` the
    other files' pictures are held against theirs by perceptual hash too.
    """

    def __init__(
        self,
        tables: Mapping[str, Rows],
        *,
        train_files: Collection[str],
        max_side: int,
        near_duplicate_bits: int | None = None,
    ) -> None:
        self._files = sorted(tables, key=lambda file: file not in train_files)
        self._tables, self._train_files = tables, train_files
        self._max_side, self._bits = max_side, near_duplicate_bits
        self._pictures = PictureTable()
        self._waiting: deque[tuple[str, Piece]] = deque()  # what this process knows of the batches under way
        self._likeness: LikenessIndex | None = None  # made when the first rows come that are not trained on
        self._alike = {file: Alike() for file in self._files if file not in train_files}

    def frames(self, workers: int) -> "Iterator[tuple[str, pd.DataFrame]]":
        """Metadata frames of at most PIECE_ROWS rows of one file, in their order; columns: see `metadata_frame`.

        UserError when a file is damaged in the middle.
        """
        rows = sum(table.count for table in self._tables.values())
        found = ordered_map(_inspect, self._tasks(), min(workers, 1 + rows // _ROWS_PER_WORKER))
        first_rows = {file: FirstRows() for file in self._files}
        for file, piece in self._pieces(found):
            yield file, self._frame(file, piece, first_rows[file])

    def near_duplicates(self, file: str) -> dict[str, Any] | None:
        """Counts of the pictures that look like one of training; None where they were not compared."""
        if self._bits is None or file not in self._alike:
            return None
        return self._alike[file].counts(self._bits)

    def _tasks(self) -> Iterator[_Task]:
        """Record batches as tasks; what this process knows of each row waits for what the workers find."""
        import pyarrow as pa

        for file in self._files:
            table = self._tables[file]
            first = 0
            for batch in table.batches():
                piece = Piece(first)
                new = self._note_pictures(piece, batch.column("image_bytes").to_pylist())
                for name, values in (("fault", piece.faults), ("origin", piece.origins)):
                    known = name in batch.schema.names
                    values += batch.column(name).to_pylist() if known else [None] * batch.num_rows
                self._waiting.append((file, piece))
                first += batch.num_rows
                # as bytes: the text may not be UTF-8
                texts = batch.column("conversations").cast(pa.large_binary()).to_pylist()
                yield _Task(texts, new, self._max_side, self._bits is not None)
            if first != table.count:
                raise UserError(
                    f"{file}: says that it holds {table.count:,} rows and holds {first:,}; make it again"
                )

    def _note_pictures(self, piece: Piece, column: list[Any]) -> list[bytes]:
        """The pictures of each row by their numbers; the bytes of those that are new."""
        rows = [row_pictures(value) for value in column]
        there = [data for row in rows for data in row[:MAX_PICTURES] if data is not None]
        known = len(self._pictures)
        numbers = self._pictures.numbers([hashlib.sha256(data).digest() for data in there])
        new = dict(zip(numbers, there, strict=True))
        told = iter(numbers)
        for row, value in zip(rows, column, strict=True):
            piece.pictures.append(tuple(NO_PICTURE if data is None else next(told) for data in row[:MAX_PICTURES]))
            piece.picture_counts.append(len(row))
            piece.placeholders.append(not row and bool(value) and value != [None])
        return [new[number] for number in range(known, len(self._pictures))]

    def _pieces(
        self, found: Iterable[tuple[list[ConversationFacts], list[PictureFacts]]]
    ) -> Iterator[tuple[str, Piece]]:
        """What the workers find, with what this process knows: pieces of at most PIECE_ROWS rows of one file."""
        file, piece = "", Piece(0)
        for conversations, pictures in found:
            for facts in pictures:
                self._pictures.add(facts)
            name, part = self._waiting.popleft()
            # Few roles in few orders: one text for all rows that have them.
            part.conversations += [
                facts._replace(form=sys.intern(facts.form), roles=facts.roles and sys.intern(facts.roles))
                for facts in conversations
            ]
            if piece.pictures and (name != file or len(piece.pictures) + len(part.pictures) > PIECE_ROWS):
                yield file, piece
                piece = Piece(part.first)
            file = name
            piece.extend(part)
        if piece.pictures:
            yield file, piece

    def _frame(self, file: str, piece: Piece, first_rows: FirstRows) -> "pd.DataFrame":
        """The frame of a piece; pictures of training rows are noted, those of others held against them."""
        facts = self._pictures.facts
        if file in self._train_files:
            at = self._files.index(file) << _ROW_BITS
            for row, numbers in enumerate(piece.pictures, piece.first):
                self._pictures.trained_on(numbers, at | row)
            return metadata_frame(file, piece, first_rows, Known(facts))
        if self._bits is not None:
            self._compare(piece, self._alike[file], self._bits)
        like = {
            number: f"{where} ({differing} of {BITS} bits differ)"
            for number, (where, differing) in self._alike[file].found.items()
        }
        return metadata_frame(file, piece, first_rows, Known(facts, self._seen_in, like.get))

    def _seen_in(self, number: int) -> str | None:
        """The id of the first training row that shows a picture."""
        row = self._pictures.first_row(number)
        return None if row is None else row_id(self._files[row >> _ROW_BITS], row & ((1 << _ROW_BITS) - 1))

    def _compare(self, piece: Piece, alike: Alike, bits: int) -> None:
        """Note which pictures of a piece look like one of training, of those that are not the same as one."""
        if self._likeness is None:
            self._likeness = LikenessIndex(self._pictures.training_likeness())
        own = {number for row in piece.pictures for number in row} - alike.compared - {NO_PICTURE}
        asked = sorted(number for number in own if self._pictures.first_row(number) is None)
        places, differing = self._likeness.nearest(self._pictures.likeness_of(asked), bits)
        alike.compared.update(asked)
        for number, place, count in zip(asked, places.tolist(), differing.tolist(), strict=True):
            if place >= 0:
                alike.found[number] = (str(self._seen_in(place)), count)
