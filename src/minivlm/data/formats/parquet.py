"""The Parquet layout: `conversations` as JSON text or a list of turns, `image_bytes` as bytes or lists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.formats.list_sizes import TooLargeError, check_lists
from minivlm.data.tables import ROW_GROUP, as_pictures, holds_lists, open_rows, row_batches, table_schema
from minivlm.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa


class ParquetRows:
    """A Parquet file with the original's columns, read by name; see `RowReader`.

    A plain file (text and bytes) is passed on as it is. Turns in lists become JSON text. Lists of pictures stay
    lists only where a row of the file has several: else each becomes its one picture, or null.
    """

    layout = "Parquet"

    def __init__(self, path: Path, *, limit: int, with_scene: bool) -> None:
        """UserError when the file is not Parquet, or a column is missing or of another type."""
        self._path, self._limit = path, limit
        with self._opened() as file:
            found = file.schema_arrow
            self.rows: int = min(file.metadata.num_rows, limit) if limit else file.metadata.num_rows
        self._with_scene = with_scene and "scene" in found.names
        for name, (fits, wanted) in _COLUMNS.items():
            if name == "scene" and not self._with_scene:
                continue
            if found.names.count(name) != 1:
                has = ", ".join(found.names) or "none"
                raise UserError(f"{path}: one column {name!r} is needed; the file has: {has}")
            if not fits(found.field(name).type):
                raise UserError(f"{path}: column {name!r} must be {wanted}, it is {found.field(name).type}")
        self._lists = holds_lists(found.field("image_bytes").type)

    @cached_property
    def schema(self) -> pa.Schema:
        import pyarrow.compute as pc

        self._check_lists()
        several = self._lists and any(
            (pc.max(pc.list_value_length(batch.column(0))).as_py() or 0) > 1
            for batch in self._read(["image_bytes"])
        )
        return table_schema(self._with_scene, several=several)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in order; UserError when the file is damaged on the way."""
        import pyarrow as pa

        for batch in self._read(self.schema.names):
            try:
                columns = [_column(batch.column(field.name), field) for field in self.schema]
            except (pa.ArrowException, ValueError) as error:  # ValueError: two fields of a turn with one name
                raise UserError(f"{self._path}: cannot be read: {_one_line(error)}") from None
            yield pa.record_batch(columns, schema=self.schema)

    def _check_lists(self) -> None:
        """UserError for a row that would take more memory than there may be."""
        import pyarrow as pa

        try:
            check_lists(self._path, [name for name in _COLUMNS if name != "scene"], self._limit)
        except TooLargeError as error:
            raise UserError(f"{self._path}: {error}; leave it out") from None
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: a column's path
            raise UserError(f"{self._path}: cannot be read: {_one_line(error)}") from None

    def _read(self, columns: list[str]) -> Iterator[Any]:
        import pyarrow as pa

        left = self._limit
        try:
            with self._opened() as file:
                for batch in row_batches(file, ROW_GROUP, columns):
                    taken = batch.slice(0, left) if self._limit else batch
                    yield taken
                    left -= taken.num_rows
                    if self._limit and left == 0:
                        return
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self._path}: cannot be read: {_one_line(error)}") from None

    def _opened(self) -> Any:
        import pyarrow as pa

        try:
            return open_rows(self._path)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: a column's name
            raise UserError(f"{self._path}: not a Parquet file: {_one_line(error)}") from None


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return kind in (pa.string(), pa.large_string())


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return kind in (pa.binary(), pa.large_binary())


def _is_list_of_bytes(kind: Any) -> bool:
    return holds_lists(kind) and _is_bytes(kind.value_type)


def _is_turns(kind: Any) -> bool:
    import pyarrow as pa

    return holds_lists(kind) and pa.types.is_struct(kind.value_type)


# column -> whether a type fits, and what fits in words
_COLUMNS = {
    "conversations": (lambda kind: _is_text(kind) or _is_turns(kind), "string or a list of structs"),
    "image_bytes": (lambda kind: _is_bytes(kind) or _is_list_of_bytes(kind), "binary or lists of it"),
    "scene": (_is_text, "string"),
}


def _column(column: Any, field: Any) -> Any:
    """One column of a batch in the type of the contract."""
    import pyarrow as pa

    if field.name == "image_bytes":
        return as_pictures(column, field.type)
    if not holds_lists(column.type):
        return column.cast(field.type)
    rows = column.cast(_in_bytes(column.type)).to_pylist()  # the text may not be UTF-8
    return pa.array([_json(turns) for turns in rows], pa.binary()).view(field.type)


def _in_bytes(kind: Any) -> Any:
    """The same nested type with bytes for every text in it."""
    import pyarrow as pa

    if holds_lists(kind):
        return pa.list_(_in_bytes(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_in_bytes(field.type)) for field in kind])
    return pa.large_binary() if _is_text(kind) else kind


def _json(turns: list[Any] | None) -> bytes | None:
    """Turns as JSON text; None stays None, and bytes that are not UTF-8 stay as they are, for the gate to find."""
    if turns is None:
        return None
    return json.dumps(turns, ensure_ascii=False, default=_text).encode("utf-8", "surrogateescape")


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else repr(value)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
