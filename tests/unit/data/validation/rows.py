"""Rows for the tests: small pictures, good conversations, Parquet files."""

import functools
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from minivlm.data.validation.expectations import Limits

LIMITS = Limits(max_text_characters=100, min_side=8, max_side=64)
SPLITS = ("pretrain", "sft", "heldout", "compositional")
Row = tuple[Any, ...]  # conversations, image_bytes, and a fault


@functools.cache
def picture(number: int, size: tuple[int, int] = (16, 16), kind: str = "JPEG", mode: str = "RGB") -> bytes:
    """A picture of its own for each number."""
    shades = bytes((number * 7 + place * (number % 5 + 1)) % 256 for place in range(size[0] * size[1] * 3))
    stream = io.BytesIO()
    image = Image.frombytes("RGB", size, shades)
    if mode == "I;16":
        image = Image.new("I;16", size, number)
    elif mode != "RGB":
        image = image.convert(mode)
    image.info["comment"] = str(number).encode()  # JPEG may blur two numbers into the same pixels
    image.save(stream, kind)
    return stream.getvalue()


@functools.cache
def photo(seed: int, quality: int = 90) -> bytes:
    """A JPEG with coarse structure of its own for each seed; of another quality it is a copy that looks alike."""
    cells = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(cells).resize((64, 64), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def photos(count: int, first: int) -> list[Row]:
    """Rows with a photo each, numbered from `first`."""
    return [(caption(), photo(number)) for number in range(first, first + count)]


def placeholder(kind: str = "JPEG", side: int = 8, colour: str = "black") -> bytes:
    """What the original puts into rows of text alone."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(stream, kind)
    return stream.getvalue()


def talk(*turns: tuple[str, Any]) -> str:
    """A conversation as JSON text."""
    return json.dumps([{"role": role, "content": content} for role, content in turns], ensure_ascii=False)


def caption(text: str = "一只鹰在飞行中") -> str:
    """A conversation that is right in every way."""
    return talk(("user", "<image>\n请描述这张图片。"), ("assistant", text))


def spoil(rows: Sequence[Row], count: int) -> list[Row]:
    """The rows with the first `count` conversations made unreadable."""
    return [("no JSON", *row[1:]) if number < count else row for number, row in enumerate(rows)]


def good_rows(count: int, first: int = 0) -> list[Row]:
    """Rows with distinct pictures, numbered from `first`."""
    return [(caption(), picture(number)) for number in range(first, first + count)]


def write_table(path: Path, rows: Sequence[Row]) -> Path:
    """Write rows as a Parquet file with the original's columns.

    `image_bytes` holds lists when a row has one; a row's third value is its fault.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    texts, pictures = [row[0] for row in rows], [row[1] for row in rows]
    faults = [row[2] if len(row) > 2 else None for row in rows]
    kind = pa.binary()
    if any(isinstance(value, list) for value in pictures):
        kind = pa.list_(pa.binary())
        pictures = [[value] if isinstance(value, bytes) else value for value in pictures]
    columns = {"conversations": pa.array(texts, pa.string()), "image_bytes": pa.array(pictures, kind)}
    if any(faults):
        columns["fault"] = pa.array(faults, pa.string())
    pq.write_table(pa.table(columns), path)
    return path


def write_splits(folder: Path, **rows: Sequence[Row]) -> dict[str, Path]:
    """One file for each split that is given, in the pipeline's order."""
    return {split: write_table(folder / f"{split}.parquet", rows[split]) for split in SPLITS if split in rows}


def write_all(folder: Path, **rows: Sequence[Row]) -> dict[str, Path]:
    """All four files; a split that is not given gets three good rows of its own."""
    own = {split: good_rows(3, first=1000 * (index + 1)) for index, split in enumerate(SPLITS)}
    return write_splits(folder, **{**own, **rows})
