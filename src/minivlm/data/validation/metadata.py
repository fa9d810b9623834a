"""Rows -> metadata frames: a few small columns per row, never the pictures themselves.

Rows are streamed in record batches. The parent hashes the pictures and hands each distinct one to a worker
process once; conversations are looked at by the same workers. Results come back in the order of the rows whatever
the number of workers, so the frames are the same for one worker and for many.
"""

import hashlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.tables import batch_rows, holds_lists
from minivlm.data.validation.conversation import ConversationFacts, conversation_facts
from minivlm.data.validation.frame import FileColumns, metadata_frame, row_id
from minivlm.data.validation.picture import MAX_PICTURES, PictureFacts, picture_facts, row_pictures
from minivlm.errors import UserError
from minivlm.parallel import ordered_map

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("conversations", "image_bytes")
OPTIONAL = ("fault", "origin")
BATCH_ROWS = 256  # with pictures of 100 KB, 25 MB a batch
_ROWS_PER_WORKER = 2048  # below this, starting a process costs more than it saves


@dataclass(frozen=True)
class TableShape:
    """What a Parquet file says about itself."""

    rows: int
    types: dict[str, str]  # column name -> Arrow type, e.g. "string", "binary", "list<binary>"


@dataclass(frozen=True)
class Rows:
    """Rows to look at: how many there are, and a function that streams them as record batches."""

    count: int
    batches: Callable[[], Iterator[Any]]


def table_shape(path: Path) -> TableShape:
    """Rows and column types of a Parquet file; UserError when it is missing or not Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            schema = file.schema_arrow
            types = {name: _type_name(kind) for name, kind in zip(schema.names, schema.types, strict=True)}
            return TableShape(file.metadata.num_rows, types)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run the download stage first: dvc repro download") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file: {_one_line(error)}") from None


def _type_name(kind: Any) -> str:
    return f"list<{kind.value_type}>" if holds_lists(kind) else str(kind)


def table_rows(path: Path) -> Rows:
    """The rows of a Parquet file."""
    return Rows(table_shape(path).rows, lambda: _table_batches(path))


def _table_batches(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Memory-mapped, a row group is paged in as it is read: one of any size needs little memory.
        with pq.ParquetFile(path, memory_map=True) as file:
            columns = [name for name in (*COLUMNS, *OPTIONAL) if name in file.schema_arrow.names]
            yield from file.iter_batches(batch_size=batch_rows(file, BATCH_ROWS), columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: damaged Parquet file: {_one_line(error)}; fetch or make it again") from None


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


def read_metadata(
    tables: Mapping[str, Rows], *, train_files: Collection[str], max_side: int, workers: int
) -> "dict[str, pd.DataFrame]":
    """One metadata frame per file, a line for each row; its columns are told by `metadata_frame`.

    `train_files` are those whose pictures no other file may show. UserError when a file is damaged in the middle.
    """
    columns = {file: FileColumns() for file in tables}
    pictures: dict[bytes, PictureFacts] = {}
    rows = sum(table.count for table in tables.values())
    tasks = _tasks(tables, columns, max_side)
    for file, conversations, found in ordered_map(_inspect, tasks, min(workers, 1 + rows // _ROWS_PER_WORKER)):
        # Few roles in few orders: one text for all rows that have them.
        columns[file].conversations += [
            facts._replace(form=sys.intern(facts.form), roles=facts.roles and sys.intern(facts.roles))
            for facts in conversations
        ]
        pictures.update(found)
    trained_on: dict[bytes, str] = {}
    for file in (name for name in columns if name in train_files):
        for row, digests in enumerate(columns[file].pictures):
            for digest in digests:
                trained_on.setdefault(digest, row_id(file, row))
    trained_on.pop(b"", None)
    return {
        file: metadata_frame(file, found, pictures, {} if file in train_files else trained_on)
        for file, found in columns.items()
    }


def _tasks(tables: Mapping[str, Rows], columns: dict[str, FileColumns], max_side: int) -> Iterator[_Task]:
    """Record batches as tasks; what the parent knows of each row is noted in `columns` on the way."""
    import pyarrow as pa

    seen: dict[bytes, bytes] = {}  # each hash once, however many rows have it
    for file, table in tables.items():
        for batch in table.batches():
            new = []
            for value in batch.column("image_bytes").to_pylist():
                pictures = row_pictures(value)
                digests = [_digest(data) for data in pictures[:MAX_PICTURES]]
                for digest, data in zip(digests, pictures, strict=False):
                    if data is not None and digest not in seen:
                        new.append((digest, data))
                    seen.setdefault(digest, digest)
                columns[file].pictures.append(tuple(seen[digest] for digest in digests))
                columns[file].picture_counts.append(len(pictures))
                columns[file].placeholders.append(not pictures and bool(value) and value != [None])
            for name, values in (("fault", columns[file].faults), ("origin", columns[file].origins)):
                known = name in batch.schema.names
                values += batch.column(name).to_pylist() if known else [None] * batch.num_rows
            # as bytes: the text may not be UTF-8
            texts = batch.column("conversations").cast(pa.large_binary()).to_pylist()
            yield _Task(file, texts, new, max_side)


def _digest(data: bytes | None) -> bytes:
    """The sha256 of a picture; empty for one that is missing."""
    return b"" if data is None else hashlib.sha256(data).digest()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
