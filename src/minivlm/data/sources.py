"""Where rows come from: the drawn world, or your own Parquet files. Either way the same files come out.

They are `pretrain.parquet`, `sft.parquet`, `heldout.parquet` and, where the source has one,
`compositional.parquet`, with the columns `conversations` (JSON text) and `image_bytes`; `scene` in held-out files
alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from minivlm.data.progress import Progress
from minivlm.data.scenes.build import build_scenes
from minivlm.data.tables import ROW_GROUP, table_schema, table_writer
from minivlm.errors import UserError
from minivlm.files import atomic_directory, sha256_file
from minivlm.paths import SPLITS, TRAIN_SPLITS

if TYPE_CHECKING:
    import pyarrow as pa

REQUIRED = ("pretrain", "sft", "heldout")


class PinnedFile(NamedTuple):
    """A file and the sha256 that it must have, 64 hex digits."""

    path: str
    sha256: str


def fetch_rows(
    out_dir: Path,
    *,
    source: str,
    scenes: Mapping[str, int],
    local: Mapping[str, PinnedFile],
    limit: int,
    seed: int,
    root: Path,
    workers: int,
) -> dict[str, float]:
    """Fill `out_dir` from the source "scenes" (see `build_scenes`) or "local" (see `copy_local`); returns counts.

    `out_dir` is replaced as a whole when everything is written; UserError leaves the old one as it was.
    """
    if source == "scenes":
        return build_scenes(out_dir, seed=seed, workers=workers, **scenes)
    return copy_local(out_dir, files=local, root=root, limit=limit)


def copy_local(out_dir: Path, *, files: Mapping[str, PinnedFile], root: Path, limit: int = 0) -> dict[str, float]:
    """Copy what training needs of your Parquet files into `out_dir`; returns the rows of each file.

    `files` by split; paths are absolute or from `root`; sft may name the same file as pretrain. `limit` is the
    number of rows taken of each file, 0 = all. Every hash and column is checked before anything is written; memory
    does not grow with the files. UserError, in one line, for a split or file or column that is missing, another
    hash, another type, or a file that is not Parquet.
    """
    absent = [split for split in REQUIRED if split not in files]
    if absent:
        raise UserError(f"download.local.{absent[0]} is missing; name its path and sha256 in params.yaml")
    places = {split: root / files[split].path for split in SPLITS if split in files}
    _check_hashes({split: (places[split], files[split].sha256) for split in places})
    schemas = {split: _checked_schema(path, split) for split, path in places.items()}
    total = sum(_rows(path, limit) for path in places.values())
    rows: dict[str, float] = {}
    with atomic_directory(out_dir) as folder, Progress("copying", total, "rows") as progress:
        for split, path in places.items():
            rows[f"{split}_rows"] = _copy(path, folder / f"{split}.parquet", schemas[split], limit, progress)
    return rows


def _check_hashes(pinned: Mapping[str, tuple[Path, str]]) -> None:
    """Compare each file with its hash; a file that two splits name is read once."""
    found: dict[Path, str] = {}
    for split, (path, expected) in pinned.items():
        if not path.is_file():
            raise UserError(f"{path}: not found; set download.local.{split}.path in params.yaml")
        if path not in found:
            try:
                found[path] = sha256_file(path)
            except OSError as error:
                raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        if found[path] != expected:
            raise UserError(
                f"{path}: its sha256 is {found[path]}, download.local.{split}.sha256 expects {expected}; "
                "restore the file, or put its hash into params.yaml if the change is meant"
            )


def _checked_schema(path: Path, split: str) -> pa.Schema:
    """The columns taken of a file, in the contract's order and types."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file: {' '.join(str(error).split())}") from None
    text, binary = (pa.string(), pa.large_string()), (pa.binary(), pa.large_binary())
    wanted = {"conversations": text, "image_bytes": binary}
    if split not in TRAIN_SPLITS and "scene" in found.names:
        wanted["scene"] = text
    for name, types in wanted.items():
        if found.names.count(name) != 1:
            has = ", ".join(found.names) or "none"
            raise UserError(f"{path}: one column {name!r} is needed; the file has: {has}")
        if found.field(name).type not in types:
            raise UserError(f"{path}: column {name!r} must be {types[0]}, it is {found.field(name).type}")
    return table_schema("scene" in wanted)


def _rows(path: Path, limit: int) -> int:
    import pyarrow.parquet as pq

    rows = int(pq.read_metadata(path).num_rows)
    return min(rows, limit) if limit else rows


def _copy(source: Path, target: Path, schema: pa.Schema, limit: int, progress: Progress) -> int:
    import pyarrow as pa

    written = 0
    try:
        with table_writer(target, schema) as writer:
            for batch in _batches(source, schema, limit):
                writer.write_batch(batch)
                written += batch.num_rows
                progress.advance(batch.num_rows)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{source}: cannot be read: {' '.join(str(error).split())}") from None
    return written


def _batches(source: Path, schema: pa.Schema, limit: int) -> Iterator[Any]:
    """Record batches with the columns of `schema`, `limit` rows in all (0 = every row)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    left = limit
    # Memory-mapped, a row group is paged in as it is read: one of any size needs little memory.
    with pq.ParquetFile(source, memory_map=True) as file:
        for batch in file.iter_batches(batch_size=ROW_GROUP, columns=schema.names):
            taken = batch.slice(0, left) if limit else batch
            columns = [taken.column(field.name).cast(field.type) for field in schema]
            yield pa.record_batch(columns, schema=schema)
            left -= taken.num_rows
            if limit and left == 0:
                return
