"""A Parquet file of rows: what it says of itself, and its rows as record batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minivlm.data.tables import holds_lists, open_rows, row_batches
from minivlm.errors import UserError

COLUMNS = ("conversations", "image_bytes")
OPTIONAL = ("fault", "origin")
BATCH_ROWS = 256  # with pictures of 100 KB, 25 MB a batch


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

    try:
        with open_rows(path) as file:
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

    try:
        with open_rows(path) as file:
            columns = [name for name in (*COLUMNS, *OPTIONAL) if name in file.schema_arrow.names]
            yield from row_batches(file, BATCH_ROWS, columns)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: damaged Parquet file: {_one_line(error)}; fetch or make it again") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
