"""The drawn world as Parquet files: `pretrain`, `sft`, `heldout` and `compositional`, from a seed.

A row's picture and words follow from (seed, split, index) alone, so worker processes draw chunks of pictures and
the files hold the same bytes whatever their number. The truth of a scene stands in the column `scene` of the two
held-out files and nowhere else, so that training cannot see it.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from minivlm.data.scenes.conversations import heldout_rows, pretrain_row, sft_row
from minivlm.data.scenes.draw import encode, render
from minivlm.data.scenes.layout import sample_scene, stream
from minivlm.data.tables import ROW_GROUP, table_schema, table_writer
from minivlm.files import atomic_directory
from minivlm.parallel import ordered_map
from minivlm.progress import Progress

CHUNK = 200  # pictures a worker draws at a time: about half a second
TRAINING = "train"  # the name of the training pictures' random streams
WITH_SCENE = {"pretrain": False, "sft": False, "heldout": True, "compositional": True}


@dataclass(frozen=True)
class Chunk:
    """Pictures `start` to `stop` of a split; sft row number n is of training picture n modulo their number."""

    seed: int
    split: str  # TRAINING, "heldout" or "compositional"
    start: int
    stop: int
    pictures: int
    sft_rows: int
    size: int
    quality: int


class Row(NamedTuple):
    """One row of a file. `scene` is empty in training files, which lack the column."""

    file: str
    conversations: str
    image_bytes: bytes
    scene: str = ""


class Picture(NamedTuple):
    """One drawn picture with its rows."""

    digest: bytes
    kinds: int
    rows: list[Row]


def build_scenes(
    out_dir: Path,
    *,
    seed: int,
    train_pictures: int,
    sft_rows: int,
    heldout_pictures: int,
    compositional_pictures: int,
    size: int,
    jpeg_quality: int,
    workers: int,
) -> dict[str, float]:
    """Draw and describe all splits into `out_dir`, which is replaced as a whole when everything is written.

    `size` is the side of a picture in pixels. pretrain has one row per training picture; sft goes over the same
    pictures in turn: fewer rows than pictures leave pictures out, more give pictures further rows. The held-out
    files have three rows per picture. Returns the rows of each file, the pictures and the share of them that show
    two kinds or more. RuntimeError when two pictures have the same bytes, which could leak into a held-out split.
    """
    pictures = {TRAINING: train_pictures, "heldout": heldout_pictures, "compositional": compositional_pictures}
    chunks = [
        Chunk(seed, split, start, min(start + CHUNK, count), count, sft_rows, size, jpeg_quality)
        for split, count in pictures.items()
        for start in range(0, count, CHUNK)
    ]
    total, several = sum(pictures.values()), 0
    seen: set[bytes] = set()
    workers = max(1, min(workers, len(chunks) // 2))  # starting a process costs as much as drawing two chunks
    with atomic_directory(out_dir) as folder, ExitStack() as stack:
        tables = {file: _Table(folder / f"{file}.parquet", truth) for file, truth in WITH_SCENE.items()}
        for table in tables.values():
            stack.callback(table.close)
        progress = stack.enter_context(Progress("drawing", total, "pictures"))
        for drawn in ordered_map(draw_chunk, chunks, workers):
            for picture in drawn:
                seen.add(picture.digest)
                several += picture.kinds > 1
                for row in picture.rows:
                    tables[row.file].add(row)
            progress.advance(len(drawn))
        if len(seen) != total:
            raise RuntimeError(f"{total - len(seen)} of {total} pictures are not distinct")
    rows = {f"{file}_rows": table.count for file, table in tables.items()}
    return {**rows, "pictures": total, "several_kinds": several / total}


def draw_chunk(chunk: Chunk) -> list[Picture]:
    """The pictures of a chunk with their rows, in order; runs in a worker process."""
    return [_draw(chunk, index) for index in range(chunk.start, chunk.stop)]


def _draw(chunk: Chunk, index: int) -> Picture:
    seed, split = chunk.seed, chunk.split
    scene = sample_scene(seed, split, index)
    image = encode(render(scene, chunk.size), chunk.quality)
    if split == TRAINING:
        rows = [Row("pretrain", pretrain_row(scene, stream(seed, split, index, "pretrain")), image)]
        for number in range(index, chunk.sft_rows, chunk.pictures):
            rows.append(Row("sft", sft_row(scene, stream(seed, split, number, "sft")), image))
    else:
        truth = json.dumps(scene.to_json(), ensure_ascii=False)
        told = heldout_rows(scene, stream(seed, split, index, "text"))
        rows = [Row(split, conversations, image, truth) for conversations in told]
    return Picture(hashlib.sha256(image).digest(), len(scene.groups), rows)


class _Table:
    """Rows on their way into one Parquet file, in groups of `ROW_GROUP`."""

    def __init__(self, path: Path, with_scene: bool) -> None:
        self._schema = table_schema(with_scene)
        self._writer = table_writer(path, self._schema)
        self._rows: list[Row] = []
        self.count = 0

    def add(self, row: Row) -> None:
        self._rows.append(row)
        self.count += 1
        if len(self._rows) == ROW_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            columns = [pa.array([getattr(row, f.name) for row in self._rows], f.type) for f in self._schema]
            self._writer.write_table(pa.table(columns, schema=self._schema))
            self._rows = []
