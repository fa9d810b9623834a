"""The Parquet files of the download stage: their columns, and a writer whose options fix the bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROW_GROUP = 1000  # rows in a group: a reader holds one at a time
_DICTIONARY_BYTES = 16 << 20  # beyond it a group stores its pictures plainly


def table_schema(with_scene: bool) -> pa.Schema:
    """`conversations` and `image_bytes`, as in the original data set; `scene` in held-out files alone."""
    import pyarrow as pa

    fields = [("conversations", pa.string()), ("image_bytes", pa.binary())]
    return pa.schema([*fields, ("scene", pa.string())] if with_scene else fields)


def table_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A Parquet writer, to be closed; each table or batch written to it becomes row groups of its own."""
    import pyarrow.parquet as pq

    # JPEG does not compress, but a picture may repeat in the rows beside it: the dictionary then holds it once.
    # Statistics of a column of pictures would be two whole pictures a group.
    return pq.ParquetWriter(
        path,
        schema,
        compression={name: "none" if name == "image_bytes" else "zstd" for name in schema.names},
        use_dictionary=["image_bytes"],
        dictionary_pagesize_limit=_DICTIONARY_BYTES,
        write_statistics=False,
    )
