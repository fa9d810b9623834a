"""A file of rows, whichever of the two layouts it has: found by content, never by the file's name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from minivlm.data.formats.jsonl import JsonLines
from minivlm.data.formats.parquet import ParquetRows
from minivlm.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

_PARQUET = b"PAR1"
_BOM = b"\xef\xbb\xbf"
_LOOKED_AT = 1 << 20  # bytes in which a line of JSON must begin


class RowReader(Protocol):
    """The rows of one file; `limit` rows were asked for, 0 = all."""

    layout: str  # in words

    @property
    def rows(self) -> int:
        """How many there are."""

    @property
    def schema(self) -> pa.Schema:
        """The columns of the batches; `image_bytes` is a list where a row has several pictures."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in order, a bounded number of bytes at a time."""


def open_rows(path: Path, images: Path | None = None, *, limit: int = 0, with_scene: bool = False) -> RowReader:
    """The reader for a file; `images` is the folder or zip that JSON lines name their pictures in.

    `with_scene` keeps the column `scene` of a Parquet file. UserError, in one line, when the file is missing or
    neither Parquet nor JSON lines, lacks a column, or when its pictures are not given.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_LOOKED_AT)
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if start.startswith(_PARQUET):
        return ParquetRows(path, limit=limit, with_scene=with_scene)
    if any(line.lstrip().startswith(b"{") for line in start.removeprefix(_BOM).split(b"\n")):
        return JsonLines(path, images, limit=limit)
    if not start.strip():
        raise UserError(f"{path}: holds no rows")
    hint = "; it is one JSON list: write one object to a line" if start.lstrip().startswith(b"[") else ""
    raise UserError(f"{path}: neither a Parquet file nor JSON lines{hint}")


def images_beside(path: Path) -> Path | None:
    """Where the original keeps the pictures of `path`: `sft_data.jsonl` has sft_images/ or sft_images.zip."""
    name = path.stem.removesuffix("_data") + "_images"
    for place in (path.with_name(name), path.with_name(f"{name}.zip")):
        if place.exists():
            return place
    return None
