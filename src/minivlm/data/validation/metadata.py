"""Parquet files -> metadata frames: a few small columns per row, never the pictures themselves.

Files are streamed in record batches. The parent hashes the pictures and hands each distinct one to a worker
process once; conversations are looked at by the same workers. Results come back in the order of the rows whatever
the number of workers, so the frames are the same for one worker and for many.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.validation.conversation import ConversationFacts, conversation_facts
from minivlm.data.validation.picture import MISSING, PictureFacts, picture_facts
from minivlm.errors import UserError
from minivlm.parallel import ordered_map

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("conversations", "image_bytes")
BATCH_ROWS = 256  # with pictures of 100 KB, 25 MB a batch
_ROWS_PER_WORKER = 2048  # below this, starting a process costs more than it saves
_INTEGERS = (
    *("turns", "marks_first_turn", "marks_elsewhere", "shortest_answer", "longest_turn"),
    *("question_characters", "answer_characters", "width", "height", "shorter_side", "longer_side"),
)
_TEXTS = ("form", "roles", "decoding", "format", "mode", "duplicate_of", "seen_in")


@dataclass(frozen=True)
class TableShape:
    """What a Parquet file says about itself."""

    rows: int
    types: dict[str, str]  # column name -> Arrow type, e.g. "string", "binary"


def table_shape(path: Path) -> TableShape:
    """Rows and column types of a Parquet file; UserError when it is missing or not Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            schema = file.schema_arrow
            types = {name: str(kind) for name, kind in zip(schema.names, schema.types, strict=True)}
            return TableShape(file.metadata.num_rows, types)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run the download stage first: dvc repro download") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file: {_one_line(error)}") from None


@dataclass(frozen=True)
class _Task:
    """One record batch on its way to a worker."""

    file: str
    conversations: list[bytes | None]
    new_pictures: list[tuple[bytes, bytes]]  # (sha256, bytes) of pictures that no earlier task holds
    max_side: int


def _inspect(task: _Task) -> tuple[str, list[ConversationFacts], list[tuple[bytes, PictureFacts]]]:
    """The work of a worker process."""
    conversations = [conversation_facts(raw) for raw in task.conversations]
    pictures = [(digest, picture_facts(data, task.max_side)) for digest, data in task.new_pictures]
    return task.file, conversations, pictures


@dataclass
class _Columns:
    """What is known of one file's rows so far."""

    pictures: list[bytes | None] = field(default_factory=list)  # sha256 of each row's picture
    conversations: list[ConversationFacts] = field(default_factory=list)


def read_metadata(
    tables: Mapping[str, Path], *, train_files: Collection[str], max_side: int, workers: int
) -> "dict[str, pd.DataFrame]":
    """One metadata frame per file, a line for each row.

    Columns: `row` (number in the file), the fields of `ConversationFacts` and `PictureFacts` but the hashes,
    `shorter_side` and `longer_side` in pixels, `duplicate_of` (id of the first row of the file with the same
    picture and the same conversation) and `seen_in` (for files beside `train_files`: id of the first row of those
    with the same picture). Unknown values are missing. UserError when a file is damaged in the middle.
    """
    columns = {file: _Columns() for file in tables}
    pictures: dict[bytes, PictureFacts] = {}
    rows = sum(table_shape(path).rows for path in tables.values())
    tasks = _tasks(tables, columns, max_side)
    for file, conversations, found in ordered_map(_inspect, tasks, min(workers, 1 + rows // _ROWS_PER_WORKER)):
        columns[file].conversations += conversations
        pictures.update(found)
    trained_on: dict[bytes, str] = {}
    for file in (name for name in columns if name in train_files):
        for row, digest in enumerate(columns[file].pictures):
            if digest is not None:
                trained_on.setdefault(digest, row_id(file, row))
    return {
        file: _frame(file, found, pictures, {} if file in train_files else trained_on)
        for file, found in columns.items()
    }


def row_id(file: str, row: int) -> str:
    """A row's name in every report: `file:row number`."""
    return f"{file}:{row}"


def _tasks(tables: Mapping[str, Path], columns: dict[str, _Columns], max_side: int) -> Iterator[_Task]:
    """Record batches as tasks; the sha256 of each row's picture is noted in `columns` on the way."""
    seen: set[bytes] = set()
    for file, path in tables.items():
        for conversations, pictures in _batches(path):
            digests = [None if data is None else hashlib.sha256(data).digest() for data in pictures]
            new = []
            for digest, data in zip(digests, pictures, strict=True):
                if digest is not None and data is not None and digest not in seen:
                    seen.add(digest)
                    new.append((digest, data))
            columns[file].pictures += digests
            yield _Task(file, conversations, new, max_side)


def _batches(path: Path) -> Iterator[tuple[list[bytes | None], list[bytes | None]]]:
    """Conversations (as bytes: the text may not be UTF-8) and pictures of a file, batch by batch."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Memory-mapped, a row group is paged in as it is read: one of any size needs little memory.
        with pq.ParquetFile(path, memory_map=True) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(COLUMNS)):
                texts, pictures = (batch.column(name).cast(pa.large_binary()).to_pylist() for name in COLUMNS)
                yield texts, pictures
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: damaged Parquet file: {_one_line(error)}; fetch or make it again") from None


def _frame(
    file: str, columns: _Columns, pictures: Mapping[bytes, PictureFacts], trained_on: Mapping[bytes, str]
) -> "pd.DataFrame":
    """The metadata frame of one file; `trained_on` maps the pictures of the training files to row ids."""
    import numpy as np
    import pandas as pd

    facts = [MISSING if digest is None else pictures[digest] for digest in columns.pictures]
    values: dict[str, list[Any]] = {
        **_transpose(ConversationFacts._fields, columns.conversations),
        **_transpose(PictureFacts._fields, facts),
    }
    sizes = list(zip(values["width"], values["height"], strict=True))
    values["shorter_side"] = [None if width is None else min(width, height) for width, height in sizes]
    values["longer_side"] = [None if width is None else max(width, height) for width, height in sizes]
    values["duplicate_of"] = _duplicates(file, columns.pictures, values["digest"])
    values["seen_in"] = [None if digest is None else trained_on.get(digest) for digest in columns.pictures]
    frame = pd.DataFrame({"row": np.arange(len(facts), dtype=np.int64)})
    for name in _INTEGERS:
        frame[name] = pd.array(values[name], dtype="Int32")
    for name in _TEXTS:
        frame[name] = pd.array(values[name], dtype="str")
    return frame


def _transpose(names: Iterable[str], rows: list[Any]) -> dict[str, list[Any]]:
    """Tuples with these field names -> one list per field."""
    return {name: [row[index] for row in rows] for index, name in enumerate(names)}


def _duplicates(file: str, pictures: list[bytes | None], conversations: list[bytes | None]) -> list[str | None]:
    """For each row the id of the first row with the same picture and conversation, or None for that row itself."""
    first: dict[tuple[bytes, bytes], int] = {}
    found: list[str | None] = []
    for row, (picture, conversation) in enumerate(zip(pictures, conversations, strict=True)):
        if picture is None or conversation is None:
            found.append(None)
            continue
        original = first.setdefault((picture, conversation), row)
        found.append(None if original == row else row_id(file, original))
    return found


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
