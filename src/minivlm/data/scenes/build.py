"""Drawn scenes → the tables of the download stage: pretrain, sft, heldout and compositional.

Every row is a pure function of (seed, split, picture, row): the files are the same bytes for any number of workers.
The truth of a scene goes into the column `scene` of the two held-out tables and nowhere else, so that training cannot
see it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minivlm.data.scenes.conversations import heldout_rows, sft_row, short_row
from minivlm.data.scenes.draw import encode, render
from minivlm.data.scenes.layout import sample_scene, stream
from minivlm.files import atomic_path
from minivlm.parallel import ordered_map

CHUNK = 200  # pictures per task of a worker and per row group
TRAINING = "training"  # the name of the training pictures' random streams


@dataclass(frozen=True)
class _Task:
    """A chunk of one split's pictures: their indices, and the sft rows that each of them has."""

    split: str
    first: int
    last: int
    seed: int
    size: int
    quality: int
    sft_rows: int  # of the whole split; row r belongs to picture r modulo `pictures`
    pictures: int


Rows = dict[str, list[Any]]


@dataclass(frozen=True)
class _Chunk:
    """The finished rows of a task by table, and the hashes of its pictures."""

    tables: dict[str, Rows]
    hashes: list[bytes]


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
) -> dict[str, int]:
    """Write pretrain, sft, heldout and compositional .parquet into `out_dir`; returns rows by table, and pictures.

    pretrain has one row per training picture. sft goes over the same pictures in turn: fewer rows than pictures leave
    pictures out, more give pictures further rows with other content. The held-out tables have three rows per picture.
    """
    pictures = {TRAINING: train_pictures, "heldout": heldout_pictures, "compositional": compositional_pictures}
    tasks = [
        _Task(split, first, min(first + CHUNK, total), seed, size, jpeg_quality, sft_rows, train_pictures)
        for split, total in pictures.items()
        for first in range(0, total, CHUNK)
    ]
    out_dir.mkdir(parents=True, exist_ok=True)
    counts = dict.fromkeys(("pretrain", "sft", "heldout", "compositional"), 0)
    seen: set[bytes] = set()
    with ExitStack() as files:
        truth = ("heldout", "compositional")
        writers = {name: _writer(files, out_dir / f"{name}.parquet", truth=name in truth) for name in counts}
        for chunk in _shown(ordered_map(_make, tasks, workers), tasks):
            assert seen.isdisjoint(chunk.hashes), "two scenes gave the same picture; take another seed"
            seen.update(chunk.hashes)
            for name, rows in chunk.tables.items():
                counts[name] += _write(writers[name], rows)
    return {**counts, "pictures": len(seen)}


def _schema(truth: bool) -> Any:
    import pyarrow as pa

    fields = [("conversations", pa.string()), ("image_bytes", pa.binary())]
    return pa.schema([*fields, ("scene", pa.string())] if truth else fields)


def _writer(files: ExitStack, path: Path, truth: bool) -> Any:
    """A Parquet writer whose file appears under its name when everything went well."""
    import pyarrow.parquet as pq

    temporary = files.enter_context(atomic_path(path))
    # JPEG bytes do not compress and do not repeat enough for a dictionary; the settings are fixed for equal bytes.
    schema = _schema(truth)
    compression = {name: "none" if name == "image_bytes" else "zstd" for name in schema.names}
    writer = pq.ParquetWriter(
        temporary, schema, compression=compression, use_dictionary=False, write_statistics=False
    )
    return files.enter_context(writer)


def _write(writer: Any, rows: Rows) -> int:
    import pyarrow as pa

    table = pa.table(rows, schema=writer.schema)
    if table.num_rows:
        writer.write_table(table)
    return int(table.num_rows)


def _make(task: _Task) -> _Chunk:
    """Draw and describe the pictures of a task (runs in a worker)."""
    hashes = []
    tables: dict[str, Rows] = {}

    def add(table: str, conversations: str, image: bytes, **more: str) -> None:
        for column, value in {"conversations": conversations, "image_bytes": image, **more}.items():
            tables.setdefault(table, {}).setdefault(column, []).append(value)

    for index in range(task.first, task.last):
        scene = sample_scene(task.seed, task.split, index)
        image = encode(render(scene, task.size), task.quality)
        hashes.append(hashlib.sha256(image).digest())
        text = stream(task.seed, task.split, index, "text")
        if task.split == TRAINING:
            add("pretrain", short_row(scene, text), image)
            for row in range(index, task.sft_rows, task.pictures):
                add("sft", sft_row(scene, stream(task.seed, task.split, row, "sft")), image)
        else:
            truth = json.dumps(scene.to_json(), ensure_ascii=False)
            for conversations in heldout_rows(scene, text):
                add(task.split, conversations, image, scene=truth)
    return _Chunk(tables, hashes)


def _shown(chunks: Iterator[_Chunk], tasks: list[_Task]) -> Iterator[_Chunk]:
    """Pass the chunks on and show how far they are: a bar on a terminal, a line at the end elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    total = sum(task.last - task.first for task in tasks)
    console = Console(file=sys.stderr)
    columns = (TextColumn("drawing scenes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total)
        for chunk in chunks:
            yield chunk
            progress.advance(bar, len(chunk.hashes))
    if not console.is_terminal:
        console.print(f"drew {total} scenes")
