"""Rows: Parquet files, JSON lines with folders and zips of pictures; texts: through download, gate, tokenize."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import zipfile
from pathlib import Path
from random import Random
from typing import Any

from tests.contract.imports import ROOT
from tests.reliability.fuzz_kind import Kind, nothing
from tests.reliability.fuzz_mutation import mutate_bytes, mutate_value

EXAMPLES = ROOT / "docs" / "examples"


def _tables(folder: Path, count: int, seed: int) -> list[bytes]:
    from tests.unit.data.validation.rows import good_rows, picture, talk, write_table

    two = (talk(("user", "<image><image>\n?"), ("assistant", "好")), [picture(1), picture(2)])
    tables = [good_rows(5), [*good_rows(3), two], [("[]", None, "a fault"), *good_rows(2)]]
    files = [write_table(folder / f"{n}.parquet", table) for n, table in enumerate(tables)]
    return [*(path.read_bytes() for path in files), (EXAMPLES / "sft.parquet").read_bytes()]


def _make_table(tables: list[bytes], random: Random, number: int, folder: Path) -> None:
    data = random.choice(tables)
    _want_gate(folder, random)
    if random.random() < 0.25:
        write = _write_bomb if number % 100 == 99 else _write_odd_table  # it takes seconds
        write(folder / "rows.parquet", random)
        return
    cut = len(data) - min(
        len(data), random.choice((600, 1500, 4000))
    )  # most of what steers a reader is at the end
    changed = (
        data[:cut] + mutate_bytes(data[cut:], random) if random.random() < 0.6 else mutate_bytes(data, random)
    )
    (folder / "rows.parquet").write_bytes(changed)


def _write_odd_table(path: Path, random: Random) -> None:
    """Columns of other types, names and orders; texts and pictures that are none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = random.choice((0, 1, 3))
    pool = [
        lambda: pa.array(
            [random.choice((None, "", "x", "[]", "[[", '[{"role": 1}]')) for _ in range(rows)], pa.string()
        ),
        lambda: pa.array(
            [random.choice((None, b"", b"x", random.randbytes(40))) for _ in range(rows)], pa.binary()
        ),
        lambda: pa.array([[b"x"] * random.randrange(3) for _ in range(rows)], pa.list_(pa.binary())),
        lambda: pa.array([[[b"x"]] for _ in range(rows)], pa.list_(pa.list_(pa.binary()))),
        lambda: pa.array([random.randrange(9) for _ in range(rows)], pa.int64()),
        lambda: pa.array([[{"role": "user", "content": None}] for _ in range(rows)]),
        lambda: pa.array([None] * rows, pa.null()),
        lambda: pa.array(["x"] * rows).dictionary_encode(),
        lambda: pa.array([b"x" * 4] * rows, pa.binary(4)),
        lambda: pa.array([["x"]] * rows, pa.large_list(pa.large_string())),
    ]
    names = ["conversations", "image_bytes", *random.sample(["scene", "fault", "origin", "conversations", "x"], 2)]
    random.shuffle(names)
    pq.write_table(pa.Table.from_arrays([random.choice(pool)() for _ in names], names), path)


def _write_bomb(path: Path, random: Random) -> None:
    """A picture in a dictionary, once, and rows of it that are together larger than what an input may take."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tests.unit.data.validation.rows import caption, picture

    lists, rows = random.random() < 0.3, 320
    padded = picture(1) + bytes(4 << 20)  # decoders stop where a picture ends
    pictures = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([padded], pa.binary()))
    if lists:
        pictures = pa.ListArray.from_arrays(
            pa.array(range(0, rows + 1, random.choice((8, rows))), pa.int32()), pictures
        )
    texts = [caption(str(row)) for row in range(len(pictures))]
    table = pa.table({"conversations": texts, "image_bytes": pictures})
    pq.write_table(table, path, compression="zstd", dictionary_pagesize_limit=1 << 30, store_schema=False)


def _use_table(folder: Path) -> None:
    _read_rows(folder / "rows.parquet", None)


def _want_gate(folder: Path, random: Random) -> None:
    """Have one input of fifty go through Great Expectations as well, which takes a second."""
    if random.random() < 0.02:
        (folder / "gate").touch()


def _read_rows(path: Path, images: Path | None) -> None:
    """What download, validate and tokenize read of a file; of Great Expectations see `_want_gate`."""
    import numpy as np
    import pandas as pd

    from minivlm.cli.check_data import summary
    from minivlm.data.formats.reader import open_rows
    from minivlm.data.rows import read_rows
    from minivlm.data.sources import RowSource, convert_rows
    from minivlm.data.validation.expectations import Limits
    from minivlm.data.validation.gate import check_rows
    from minivlm.data.validation.metadata import MetadataReader
    from minivlm.data.validation.parquet_rows import Rows, table_rows

    reader = open_rows(path, images)
    if (path.parent / "gate").exists():
        limits = Limits(max_text_characters=2000, min_side=16, max_side=4096)
        list(summary(check_rows("rows", Rows(reader.rows, reader.batches), limits=limits, workers=1)))

    def metadata(rows: Rows) -> Any:
        reader = MetadataReader({"sft": rows}, train_files=("sft",), max_side=4096)
        return pd.concat([frame for _, frame in reader.frames(1)])

    if reader.rows:
        metadata(Rows(reader.rows, reader.batches))
    out = path.parent / "download"
    convert_rows(out, dict.fromkeys(("pretrain", "sft", "heldout"), RowSource(path, images)))
    table = out / "sft.parquet"
    if not reader.rows:  # no frame comes of it
        list(table_rows(table).batches())
        return
    frame = metadata(table_rows(table))
    sound = np.flatnonzero((frame["form"] == "turns") & frame["fault"].isna() & (frame["decoding"] == "decodes"))
    for _ in read_rows(table, sound):
        pass


def _lines(folder: Path, count: int, seed: int) -> tuple[list[Any], list[bytes], bytes]:
    from tests.reliability.fuzz_values import ROWS, examples

    lines = (EXAMPLES / "sft_data.jsonl").read_bytes().splitlines(keepends=True)[:6]
    return examples(ROWS, count, seed), lines, (EXAMPLES / "sft_images.zip").read_bytes()


def _make_lines(prepared: tuple[list[Any], list[bytes], bytes], random: Random, number: int, folder: Path) -> None:
    drawn, lines, packed = prepared
    _want_gate(folder, random)
    text = b"".join(lines)
    if random.random() < 0.5:
        text = b"".join(json.dumps(row).encode() + b"\n" for row in drawn[number % len(drawn)])
    elif random.random() < 0.7:
        text = mutate_bytes(text, random, words=(b"\n", b'"', b"\\u0000", b"\xff", b"..%2f", b"[" * 900, b"\r\n"))
    (folder / "rows.jsonl").write_bytes(text)
    if random.random() < 0.5:
        data = mutate_zip(packed, random) if random.random() < 0.8 else packed
        (folder / "images.zip").write_bytes(data)
        return
    images = folder / "images"
    (images / "a").mkdir(parents=True)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        for name in ("00.jpg", "01.jpg"):
            (images / name).write_bytes(archive.read(name))
    shutil.copy(images / "00.jpg", images / "a" / "0.jpg")
    (images / "link.jpg").symlink_to("/etc/passwd")
    (images / "dangling.jpg").symlink_to("nowhere")
    os.mkfifo(images / "pipe.jpg")


def mutate_zip(data: bytes, random: Random) -> bytes:
    """A zip: its bytes, or its members by name, kind, size and packing."""
    if random.random() < 0.6:
        cut = len(data) - min(len(data), random.choice((200, 1500)))
        return (
            data[:cut] + mutate_bytes(data[cut:], random) if random.random() < 0.7 else mutate_bytes(data, random)
        )
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", random.choice((0, 8, 12, 14))) as archive:
        for name in random.sample(
            ("00.jpg", "../00.jpg", "/00.jpg", "a/../../01.jpg", "x/00.jpg", "X.JPG", "01.jpg"), 4
        ):
            info = zipfile.ZipInfo(name)
            info.external_attr = random.choice((0o100644, 0o120777, 0o040755, 0)) << 16
            archive.writestr(info, bytes(random.choice((0, 9, 10**6))), compress_type=random.choice((0, 8)))
    return mutate_bytes(stream.getvalue(), random) if random.random() < 0.3 else stream.getvalue()


def _use_lines(folder: Path) -> None:
    images = folder / "images"
    _read_rows(folder / "rows.jsonl", images if images.exists() else folder / "images.zip")


def _make_texts(prepared: Any, random: Random, number: int, folder: Path) -> None:
    lines = [
        '{"text": "一只鸟。", "source": {"page": 3, "tags": ["a", null]}}',
        '{"conversations": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}], "id": 1.5}',
    ]
    packed, at_last = random.random() < 0.5, random.random() < 0.3
    chosen = [line.encode() for line in random.choices(lines, k=4)]
    if not (packed and at_last):  # lines beside good ones, so that the reader comes to them and goes on
        place = random.randrange(len(chosen))
        if random.random() < 0.6:
            chosen[place] = json.dumps(mutate_value(json.loads(chosen[place]), random)).encode()
        else:
            chosen = [mutate_bytes(b"\n".join(chosen), random, words=(b"\n\n", b"\r\n", b"\xef\xbb\xbf", b"\0"))]
    data = b"\n".join(chosen)
    if packed:
        data = gzip.compress(data, mtime=0)
        data = mutate_bytes(data, random) if at_last else data
    (folder / ("texts.jsonl.gz" if packed else "texts.jsonl")).write_bytes(data)


def _use_texts(folder: Path) -> None:
    from minivlm.data.texts import TextFile, survey
    from minivlm.files import sha256_file

    [path] = folder.iterdir()
    survey([TextFile(path, sha256_file(path))])


KINDS = (
    Kind("Parquet files", 110, _tables, _make_table, _use_table),
    Kind("JSON lines and zips", 110, _lines, _make_lines, _use_lines),
    Kind("texts", 50, nothing, _make_texts, _use_texts),
)
