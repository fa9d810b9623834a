"""Tables of any number of rows within seconds: few drawn pictures, conversations that are all distinct.

Every picture and caption comes from the drawn world, as the download stage makes them. A caption gets the number
of its row at the end, so that no two conversations are the same; every 64 rows in a line share a picture, so that
the file stays small. What a stage does with a row is all there; decoding is done once for each distinct picture.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PICTURES = 256  # distinct ones
SIDE = 64  # pixels
TOGETHER = 64  # rows in a line that share a picture
SFT, HELDOUT = 200, 60  # rows of these files
_WORDINGS = 8  # of each picture
_SEED = 7
_GROUP = 20_000  # rows in memory while writing


def write_tables(folder: Path, rows: int, *, own_pictures: bool = False) -> None:
    """`pretrain.parquet` and `sft.parquet` with together `rows` rows, `heldout.parquet` with other pictures.

    pretrain has all rows but the 200 of sft: the stages need every file, and one is enough to measure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [_draw(number) for number in range(PICTURES)]
    _write(folder / "pretrain.parquet", drawn, 0, rows - SFT, own_pictures)
    _write(folder / "sft.parquet", drawn, rows - SFT, SFT, own_pictures)
    heldout = [_draw(PICTURES + number) for number in range(HELDOUT)]
    _write(folder / "heldout.parquet", heldout, rows, HELDOUT, own_pictures)


def _draw(number: int) -> tuple[bytes, list[str]]:
    """A JPEG and conversations about it, with a place for a number in each."""
    from minivlm.data.scenes.conversations import pretrain_row
    from minivlm.data.scenes.draw import encode, render
    from minivlm.data.scenes.layout import sample_scene, stream

    scene = sample_scene(_SEED, "train", number)
    told = [json.loads(pretrain_row(scene, stream(_SEED, "rows", number, str(i)))) for i in range(_WORDINGS)]
    for turns in told:
        turns[-1]["content"] = turns[-1]["content"].rstrip("。") + ",第NUMBER幅。"
    return encode(render(scene, SIDE), 90), [json.dumps(turns, ensure_ascii=False) for turns in told]


def commented(jpeg: bytes, number: int) -> bytes:
    """The same picture as a file of its own: a comment segment with the number, after the start of the image."""
    comment = str(number).encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def _write(
    path: Path, drawn: Sequence[tuple[bytes, list[str]]], first: int, rows: int, own_pictures: bool
) -> None:
    import pyarrow as pa

    from minivlm.data.tables import ROW_GROUP, table_schema, table_writer

    schema = table_schema()
    together = min(TOGETHER, max(1, rows // len(drawn)))
    with table_writer(path, schema) as writer:
        for start in range(0, rows, _GROUP):
            numbers = range(start, min(start + _GROUP, rows))
            chosen = [number // together % len(drawn) for number in numbers]
            texts = [
                drawn[picture][1][number % _WORDINGS].replace("NUMBER", str(first + number))
                for number, picture in zip(numbers, chosen, strict=True)
            ]
            pictures: Any
            if own_pictures:
                own = [commented(drawn[place][0], first + row) for row, place in zip(numbers, chosen, strict=True)]
                pictures = pa.array(own, pa.binary())
            else:
                pictures = pa.array([data for data, _ in drawn], pa.binary()).take(pa.array(chosen))
            table = pa.table([pa.array(texts, pa.string()), pictures], schema=schema)
            writer.write_table(table, row_group_size=ROW_GROUP)
