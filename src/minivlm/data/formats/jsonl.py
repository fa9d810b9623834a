"""The layout of JSON lines beside a folder or a zip of pictures.

Line n is row n - 1, whatever the line holds. Blank lines at the end of the file are no rows; one that stands
between others is a row at fault. The file is gone through twice: first for the number of rows and of pictures in a
row, which the columns depend on, then for the rows, each with its pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from minivlm.data.formats.jsonl_row import BLANK, Line, parse_line
from minivlm.data.formats.picture_files import PictureFileError, PictureFiles, PictureFolder, fault_of
from minivlm.data.formats.picture_zip import PictureZip
from minivlm.data.tables import BATCH_BYTES, ROW_GROUP, table_schema
from minivlm.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

_LONGEST_LINE = 16 << 20  # bytes
_BOM = b"\xef\xbb\xbf"
_TOO_LONG = Line(fault=f"a line longer than {_LONGEST_LINE:,} bytes")


class _Survey(NamedTuple):
    """What the first time through the file finds."""

    rows: int
    most_pictures: int


class JsonLines:
    """A file of JSON lines and its pictures; see `RowReader`. Its batches have the column `fault`."""

    layout = "JSON lines"

    def __init__(self, path: Path, images: Path | None, *, limit: int) -> None:
        """UserError when rows name pictures and `images` is None, or is no folder and no zip."""
        self._path, self._images, self._limit = path, images, limit
        if images is not None:
            open_pictures(images).close()
        elif self._survey.most_pictures:
            raise UserError(f"{path}: its rows name pictures; name the folder or zip that holds them")

    @property
    def rows(self) -> int:
        """How many there are."""
        return self._survey.rows

    @cached_property
    def schema(self) -> pa.Schema:
        return table_schema(several=self._survey.most_pictures > 1, with_fault=True)

    @cached_property
    def _survey(self) -> _Survey:
        rows = most = 0
        for line in self._lines():
            rows += 1
            most = max(most, len(line.pictures))
        return _Survey(rows, most)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in order; at most ROW_GROUP at a time, fewer where their pictures are large."""
        rows: list[tuple[Line, list[bytes]]] = []
        size = 0
        with closing(open_pictures(self._images) if self._images else _NoPictures()) as pictures:
            for line in self._lines():
                rows.append(_with_pictures(line, pictures))
                size += len(line.conversations or "") + sum(map(len, rows[-1][1]))
                if len(rows) == ROW_GROUP or size >= BATCH_BYTES:
                    yield self._batch(rows)
                    rows, size = [], 0
            if rows:
                yield self._batch(rows)

    def _batch(self, rows: list[tuple[Line, list[bytes]]]) -> Any:
        import pyarrow as pa

        schema = self.schema
        lists = self._survey.most_pictures > 1
        images = [pictures if lists else pictures[0] if pictures else None for _, pictures in rows]
        columns = [[line.conversations for line, _ in rows], images, [line.fault for line, _ in rows]]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        return pa.record_batch(arrays, schema=schema)

    def _lines(self) -> Iterator[Line]:
        """The lines as rows, `limit` of them."""
        try:
            with self._path.open("rb") as file:
                if file.read(len(_BOM)) != _BOM:
                    file.seek(0)
                for number, raw in enumerate(_raw_lines(file)):
                    if self._limit and number == self._limit:
                        return
                    yield _TOO_LONG if raw is None else parse_line(raw) if raw else BLANK
        except OSError as error:
            raise UserError(f"{self._path}: cannot be read: {error.strerror}") from None


def _raw_lines(file: BinaryIO) -> Iterator[bytes | None]:
    """The bytes of each line; None for one too long to be held. Blank lines at the end are left out."""
    blank = 0  # lines that are no rows unless another line follows
    while line := file.readline(_LONGEST_LINE):
        whole = line.endswith(b"\n") or len(line) < _LONGEST_LINE
        if whole and not line.strip():
            blank += 1
            continue
        for _ in range(blank):
            yield b""
        blank = 0
        yield line.strip() if whole else None
        while not whole:
            rest = file.readline(_LONGEST_LINE)
            whole = not rest or rest.endswith(b"\n")


def open_pictures(place: Path) -> PictureFiles:
    """The folder or zip of pictures at `place`; UserError when it is neither."""
    if place.is_dir():
        return PictureFolder(place)
    if not place.is_file():
        raise UserError(f"{place}: not found; name the folder or zip of pictures")
    return PictureZip(place)


def _with_pictures(line: Line, files: PictureFiles) -> tuple[Line, list[bytes]]:
    """A line with its pictures; a line with a picture that cannot be had has none, and says which."""
    pictures: list[bytes] = []
    faults: list[str] = []
    for number, name in enumerate(line.pictures, 1):
        try:
            pictures.append(files.read(name))
        except PictureFileError as fault:
            faults.append(fault_of(number, name, fault))
        if sum(map(len, pictures)) > BATCH_BYTES:
            faults.append(f"its pictures are together larger than {BATCH_BYTES:,} bytes")
            break
    return (line._replace(fault="; ".join(faults)), []) if faults else (line, pictures)


class _NoPictures:
    """In place of a folder where no row names a picture."""

    def read(self, name: str) -> bytes:
        raise PictureFileError(f"there is no folder of pictures for {name}")

    def close(self) -> None:
        pass
