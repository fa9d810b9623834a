"""The Parquet files of the download stage: their columns, and a writer whose options fix the bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROW_GROUP = 1000  # rows in a group: a reader holds one at a time
BATCH_BYTES = 256 << 20  # of a group of rows, where their number alone would allow more
READ_BYTES = 64 << 20  # of a batch that is read, likewise
_READ_ROWS = 4  # decoded at once: a dictionary of few bytes makes any number of rows of any size
_BUFFER = 1 << 20  # bytes of a column read at once
_DICTIONARY_BYTES = 16 << 20  # beyond it a group stores its pictures plainly
_SOURCE = b"minivlm.source"  # in a file's metadata: whose rows these are, for the model card


def table_schema(with_scene: bool = False, *, several: bool = False, with_fault: bool = False) -> pa.Schema:
    """`conversations` and `image_bytes`, as in the original data set, and what else a file may have.

    `with_scene`: the truth of drawn pictures, in held-out files alone. `several`: `image_bytes` is a list, because
    a row has several pictures. `with_fault`: why a row could not be read, null where it could.
    """
    import pyarrow as pa

    fields = [
        ("conversations", pa.string()),
        ("image_bytes", pa.list_(pa.binary()) if several else pa.binary()),
    ]
    if with_scene:
        fields.append(("scene", pa.string()))
    if with_fault:
        fields.append(("fault", pa.string()))
    return pa.schema(fields)


def table_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A Parquet writer, to be closed; each table or batch written to it becomes row groups of its own."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # JPEG does not compress, but a picture may repeat in the rows beside it: the dictionary then holds it once.
    # Statistics of a column of pictures would be two whole pictures a group.
    several = pa.types.is_list(schema.field("image_bytes").type)
    pictures = "image_bytes.list.element" if several else "image_bytes"
    names = [pictures if name == "image_bytes" else name for name in schema.names]
    return pq.ParquetWriter(
        path,
        schema,
        compression={name: "none" if name == pictures else "zstd" for name in names},
        use_dictionary=[pictures],
        dictionary_pagesize_limit=_DICTIONARY_BYTES,
        write_statistics=False,
    )


def with_source(schema: pa.Schema, source: str) -> pa.Schema:
    """The schema of a file whose rows come from `source`; a file that says nothing was drawn here."""
    return schema.with_metadata({_SOURCE: source.encode()})


def source_of(path: Path) -> str | None:
    """Whose rows a file of the download stage holds, as `with_source` wrote it; None for rows drawn here."""
    import pyarrow.parquet as pq

    source = (pq.read_schema(path).metadata or {}).get(_SOURCE)
    return None if source is None else source.decode("utf-8", "replace")


def open_rows(path: Path, as_numbers: Sequence[str] = ()) -> pq.ParquetFile:
    """A Parquet file to be read in batches, in little memory whatever the size of its row groups.

    `as_numbers`: paths of columns that are read as numbers of a dictionary's entries. Raises as pyarrow does.
    Through a buffer, because of a map every page that was read stays in the process.
    """
    import pyarrow.parquet as pq

    return pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False, read_dictionary=list(as_numbers))


def row_batches(file: pq.ParquetFile, most: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file in order, in batches of at most `most`; of at most READ_BYTES, or of one row.

    What rows take is measured as they come, a few at a time: the file does not say it, where a dictionary or a
    compression holds a value once that many rows have, and what it says may be untrue. Raises as pyarrow does.
    """
    lists = any(holds_lists(file.schema_arrow.field(name).type) for name in columns)
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for part in _small_batches(file, 1 if lists else min(most, _READ_ROWS), columns):
        if waiting and (rows + part.num_rows > most or size + part.nbytes > READ_BYTES):
            yield _joined(waiting)
            waiting, rows, size = [], 0, 0
        waiting.append(part)
        rows, size = rows + part.num_rows, size + part.nbytes
    if waiting:
        yield _joined(waiting)


def _small_batches(file: pq.ParquetFile, most: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """At most `most` rows at a time; one at a time where they are large."""
    for batch in file.iter_batches(most, columns=list(columns)):
        step = 1 if batch.nbytes > READ_BYTES else most
        yield from (batch.slice(start, step) for start in range(0, batch.num_rows, step))


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    import pyarrow as pa

    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def holds_lists(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a list of variable or of fixed length."""
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def as_pictures(column: Any, kind: pa.DataType) -> Any:
    """Pictures as `kind`: one becomes a list of one, a list of at most one becomes that one, or null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if holds_lists(column.type) == holds_lists(kind):
        return column.cast(kind)
    if holds_lists(kind):
        length = pc.if_else(pc.is_valid(column), 1, 0).cast(pa.int32())
        offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(length).cast(pa.int32())])
        return pa.ListArray.from_arrays(offsets, column.drop_null().cast(kind.value_type))
    lists = column.cast(pa.list_(kind))
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    starts = pc.subtract(pc.cumulative_sum(lengths), lengths)
    place = pc.if_else(pc.greater(lengths, 0), starts, None)
    return pc.list_flatten(lists).take(place)


def as_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch with the columns of `schema` alone, each in its type."""
    import pyarrow as pa

    columns = [
        (as_pictures if field.name == "image_bytes" else _cast)(batch.column(field.name), field.type)
        for field in schema
    ]
    return pa.record_batch(columns, schema=schema)


def _cast(column: Any, kind: pa.DataType) -> Any:
    return column.cast(kind)


class GroupedWriter:
    """Writes batches of any size as groups of ROW_GROUP rows, fewer where rows are large; a context manager."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = table_writer(path, schema)
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self.rows = 0

    def __enter__(self) -> GroupedWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
        self._writer.close()

    def write(self, batch: pa.RecordBatch) -> None:
        """Take a batch; it is on disk when the writer is left."""
        while batch.num_rows:
            taken = batch.slice(0, ROW_GROUP - self._waiting_rows)
            self._waiting.append(taken)
            self._waiting_rows += taken.num_rows
            batch = batch.slice(taken.num_rows)
            if self._waiting_rows == ROW_GROUP or sum(part.nbytes for part in self._waiting) >= BATCH_BYTES:
                self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting), row_group_size=ROW_GROUP)
            self.rows += self._waiting_rows
            self._waiting, self._waiting_rows = [], 0
