"""Files of rows, wherever they come from -> the Parquet files of the download stage.

They are `pretrain.parquet`, `sft.parquet`, `heldout.parquet` and, where the source has one,
`compositional.parquet`, with the columns `conversations` (JSON text) and `image_bytes`; `scene` in held-out files
alone, `fault` where a row could not be read, `origin` where rows were moved to another file. Nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from minivlm.config.combinations import split_faults
from minivlm.data.formats.reader import RowReader, open_rows
from minivlm.data.holdout import Holdout
from minivlm.data.tables import GroupedWriter, as_schema, table_schema, table_writer, with_source
from minivlm.errors import UserError
from minivlm.files import atomic_directory
from minivlm.paths import SPLITS, TRAIN_SPLITS
from minivlm.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa


class RowSource(NamedTuple):
    """A Parquet file, or JSON lines with the folder or zip of their pictures; `name`: whose rows they are."""

    path: Path
    images: Path | None = None
    name: str = "files of your own"


def convert_rows(
    out_dir: Path, sources: Mapping[str, RowSource], *, limit: int = 0, heldout_fraction: float = 0.0
) -> dict[str, float]:
    """Write the files of the download stage into `out_dir`; returns the rows of each.

    `sources` by split; sft may name the same file as pretrain. `limit` is the number of rows taken of each, 0 =
    all. Without a source for heldout, the rows of `heldout_fraction` of the pictures go there instead of to
    training (see `Holdout`). `out_dir` is replaced as a whole when everything is written. Rows go by a batch at a
    time; where rows are held out, hashes of these and of the pictures of rows with several are kept. UserError, in
    one line, for a split that is missing, a file that cannot be used, or a fraction that leaves a file without
    rows; the old `out_dir` then stays.
    """
    check_splits(sources, heldout_fraction)
    readers = {
        split: open_rows(*sources[split][:2], limit=limit, with_scene=split not in TRAIN_SPLITS)
        for split in SPLITS
        if split in sources
    }
    total = sum(reader.rows for reader in readers.values())
    with atomic_directory(out_dir) as folder, Progress("copying", total, "rows") as progress:
        counts: dict[str, int] = {}
        if "heldout" not in readers:
            training = {split: readers.pop(split) for split in TRAIN_SPLITS}
            names = {split: sources[split].name for split in TRAIN_SPLITS}
            counts = _divide(training, names, folder, heldout_fraction, progress)
        for split, reader in readers.items():
            counts[split] = _copy(reader, sources[split].name, folder / f"{split}.parquet", progress)
    return {f"{split}_rows": counts[split] for split in SPLITS if split in counts}


def check_splits(splits: Collection[str], heldout_fraction: float, section: str = "download.local") -> None:
    """UserError unless rows of both trainings are named and held-out rows come from somewhere."""
    if fault := next(split_faults(splits, heldout_fraction, section), None):
        raise UserError(fault)


def _copy(reader: RowReader, name: str, target: Path, progress: Progress) -> int:
    written = 0
    with table_writer(target, with_source(reader.schema, name)) as writer:
        for batch in reader.batches():
            writer.write_batch(batch)
            written += batch.num_rows
            progress.advance(batch.num_rows)
    return written


def _divide(
    readers: Mapping[str, RowReader], names: Mapping[str, str], folder: Path, fraction: float, progress: Progress
) -> dict[str, int]:
    """Write training files and heldout.parquet; each row says in `origin` which row of which source it was."""
    import pyarrow as pa

    several = {split: _has_lists(reader) for split, reader in readers.items()}
    holdout = Holdout(fraction)
    for split, reader in readers.items():
        for batch in reader.batches() if several[split] else ():
            holdout.keep_linked(batch)
    heldout = with_source(_with_origin(table_schema()), ", ".join(dict.fromkeys(names.values())))
    counts = {}
    with GroupedWriter(folder / "heldout.parquet", heldout) as held:
        for split, reader in readers.items():
            schema, start = with_source(_with_origin(reader.schema), names[split]), 0
            holdout.next_file()
            with GroupedWriter(folder / f"{split}.parquet", schema) as kept:
                for batch in reader.batches():
                    ids = [f"{split}:{start + row}" for row in range(batch.num_rows)]
                    batch = batch.append_column("origin", pa.array(ids, pa.string()))
                    stays, goes = holdout.divide(batch)
                    kept.write(batch.filter(stays))
                    held.write(as_schema(batch.filter(goes), heldout))
                    start += batch.num_rows
                    progress.advance(batch.num_rows)
            counts[split] = kept.rows
    counts["heldout"] = held.rows
    empty = [split for split, rows in counts.items() if not rows]
    if empty:
        raise UserError(
            f"download.heldout_fraction {fraction:g} leaves no row for {empty[0]}; "
            f"{'raise' if empty[0] == 'heldout' else 'lower'} it, or name a source of heldout rows"
        )
    return counts


def _has_lists(reader: RowReader) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(reader.schema.field("image_bytes").type))


def _with_origin(schema: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    return schema.append(pa.field("origin", pa.string()))
