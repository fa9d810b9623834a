"""The example files of the documentation: twenty rows in each layout, with drawn pictures.

`python -m minivlm.data.formats.examples FOLDER` writes sft_data.jsonl with sft_images.zip, and sft.parquet. The
same code writes the same bytes: the zip stores its members without a time, in the order of their names.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from minivlm.data.scenes.conversations import pretrain_row, sft_row
from minivlm.data.scenes.draw import encode, render
from minivlm.data.scenes.layout import sample_scene, stream
from minivlm.files import atomic_path, write_text

ROWS = 20
_SEED, _SPLIT, _SIDE, _QUALITY = 20, "example", 64, 85
_SEVERAL = (3, 8, 13, 18)  # rows with two pictures
_ALONE = (5, 15)  # rows of text alone
_GREETINGS = (("你好，你是谁？", "你好！我是一个能看懂图片的小助手。"), ("谢谢你。", "不客气，欢迎再来。"))
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can tell


class Example(NamedTuple):
    """A row: its turns, and its pictures by file name."""

    turns: list[dict[str, str]]
    pictures: dict[str, bytes]


def write_examples(folder: Path) -> None:
    """Write both examples into `folder`, which is made where it is missing."""
    rows = examples()
    lines = []
    for row in rows:
        image = {"image": ", ".join(row.pictures)} if row.pictures else {}
        lines.append(json.dumps({"conversations": row.turns, **image}, ensure_ascii=False) + "\n")
    write_text(folder / "sft_data.jsonl", "".join(lines))
    with atomic_path(folder / "sft_images.zip") as path, zipfile.ZipFile(path, "w") as archive:
        for row in rows:
            for name, data in row.pictures.items():
                member = zipfile.ZipInfo(name, _ZIP_TIME)
                member.create_system, member.external_attr = 3, 0o644 << 16  # as on Unix, wherever this runs
                archive.writestr(member, data)
    with atomic_path(folder / "sft.parquet") as path:
        _write_parquet(path, rows)


def examples() -> list[Example]:
    """The rows: questions about one picture, about two, in several turns, and text alone."""
    return [_example(number) for number in range(ROWS)]


def _example(number: int) -> Example:
    if number in _ALONE:
        question, answer = _GREETINGS[_ALONE.index(number)]
        return Example(_turns(question, answer), {})
    picture, caption = _drawn(number)
    name = f"{number:02}.jpg"
    if number in _SEVERAL:
        other, said = _drawn(number + 100)
        answer = f"第一张图：{caption}\n第二张图：{said}"
        turns = _turns("第一张图：<image>\n第二张图：<image>\n请分别描述。", answer)
        return Example(turns, {name: picture, f"{number:02}b.jpg": other})
    scene = sample_scene(_SEED, _SPLIT, number)
    turns = json.loads(sft_row(scene, stream(_SEED, _SPLIT, number, "sft")))
    if number % 4 == 2:  # the mark may also stand at the end
        turns[0]["content"] = turns[0]["content"].replace("<image>\n", "") + "\n<image>"
    return Example(turns, {name: picture})


def _drawn(number: int) -> tuple[bytes, str]:
    """A picture and its caption."""
    scene = sample_scene(_SEED, _SPLIT, number)
    caption = json.loads(pretrain_row(scene, stream(_SEED, _SPLIT, number, "pretrain")))[1]["content"]
    return encode(render(scene, _SIDE), _QUALITY), caption


def _turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _placeholder() -> bytes:
    """What the original puts where a row has no picture: 8 x 8 black pixels."""
    import io

    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "PNG")
    return data.getvalue()


def _write_parquet(path: Path, rows: list[Example]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    turns: Any = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    pictures = [list(row.pictures.values()) or [_placeholder()] for row in rows]
    columns = [pa.array([row.turns for row in rows], turns), pa.array(pictures, pa.list_(pa.binary()))]
    table = pa.table(columns, names=["conversations", "image_bytes"])
    pq.write_table(table, path, compression="none", use_dictionary=False, write_statistics=False)


if __name__ == "__main__":
    write_examples(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/examples"))
