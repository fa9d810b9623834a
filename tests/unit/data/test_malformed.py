"""Every malformed or odd row, through conversion, gate and tokens: rejected by id with its reason, or handled.

Sound rows stand between the others, so that a fault is seen to stay in its row. Two runs of the gate serve all.
"""

import json
import os
import stat
import struct
import threading
import zipfile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minivlm.data.pictures import decode
from minivlm.data.rows import read_rows
from minivlm.data.sources import RowSource, convert_rows
from minivlm.data.tokenization import Source, write_stores
from minivlm.data.validation.accepted import write_accepted
from minivlm.data.validation.expectations import Limits
from minivlm.data.validation.gate import check_tables
from minivlm.data.validation.picture import MAX_PICTURE_BYTES, row_pictures
from minivlm.data.validation.verdict import row_id
from tests.unit.data.malformed import (
    CASES,
    JSON_FAULTS,
    LINES,
    ONLY_IN_FOLDER,
    ONLY_IN_ZIP,
    PHOTO,
    TOLD,
    turns,
)
from tests.unit.data.toys import IMAGE_TOKENS
from tests.unit.data.validation.rows import good_rows, picture, write_table

LIMITS = Limits(max_text_characters=2000, min_side=16, max_side=4096)
SPLIT = {"folder": "pretrain", "zip": "sft", "text": "pretrain", "lists": "sft"}  # the file of each layout
WHERE = {"folder": "the folder of pictures", "zip": "the zip of pictures"}
FIRST = turns(("user", "<image>\n请描述这张图片。"), TOLD)


def beside(number):
    """The sound row after case `number`."""
    return turns(("user", f"<image>第{number}张"), ("assistant", f"好，{number}。"))


def dumps(value):
    return json.dumps(value)  # escapes alone: a lone surrogate has no UTF-8


def lines_of(cases):
    """Lines of rows and the pictures they name; the first row, then each case with a sound row after it."""
    lines, files = [dumps({"conversations": FIRST, "image": "first.jpg"}).encode()], {"first.jpg": PHOTO}
    for number, (name, case) in enumerate(cases.items()):
        if name in CASES:
            names = [f"{number}-{place}.jpg" for place in range(len(case.pictures))]
            files.update(zip(names, case.pictures, strict=True))
            lines.append(dumps({"conversations": case.turns, "image": ", ".join(names)}).encode())
        elif name in JSON_FAULTS:
            lines.append(b'{"conversations": %s}' % case[0].encode())
        else:
            lines.append(case[0])
        files[f"beside-{number}.png"] = picture(20_000 + number, (20, 16), "PNG")
        lines.append(dumps({"conversations": beside(number), "image": f"beside-{number}.png"}).encode())
    # found by path or by base name, each as large as it takes to pass
    files |= {"good.jpg": picture(30_000), "图片 一.jpg": picture(30_001), "else/only.jpg": picture(30_002)}
    files |= {"deep/twin.jpg": picture(30_003), "deep/below/twin.jpg": picture(30_004)}
    files |= {"high/below/twin.jpg": picture(30_005), "high/below/once.jpg": picture(30_006)}
    files |= {"deep/good.jpg": picture(30_007), "else/other.jpg": picture(30_008)}
    return b"\n".join(lines) + b"\n\n \n", files


def write_folder(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder.parent / "secret.jpg").write_bytes(picture(30_010))
    (folder / "link.jpg").symlink_to("../secret.jpg")
    (folder / "dangling.jpg").symlink_to("nothing.jpg")
    (folder / "large.jpg").touch()
    os.truncate(folder / "large.jpg", MAX_PICTURE_BYTES + 1)
    write_pipe(folder / "pipe.jpg")


def write_pipe(path):
    """A named pipe in which nothing comes; who reads it all the same sees its end, and does not wait for ever."""

    def end_it():
        while True:
            path.open("wb").close()  # returns when somebody reads

    os.mkfifo(path)
    threading.Thread(target=end_it, daemon=True).start()


def write_zip(path, files):
    """The files below one folder, as zips are often made, and members that are at fault in ways of their own."""
    top = "sft_images/"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(top + name, data)
        link = zipfile.ZipInfo(f"{top}link.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("__MACOSX/sft_images/._good.jpg", b"of no use")
        for name in ("encrypted.jpg", "method.jpg", "checksum.jpg", "large.jpg", "twice.jpg"):
            archive.writestr(top + name, picture(30_020))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(f"{top}twice.jpg", picture(30_021))
    data = bytearray(path.read_bytes())
    entry = {name: data.rindex(f"{top}{name}".encode()) - 46 for name in ("encrypted.jpg", "method.jpg")}
    entry |= {name: data.rindex(f"{top}{name}".encode()) - 46 for name in ("checksum.jpg", "large.jpg")}
    struct.pack_into("<H", data, entry["encrypted.jpg"] + 8, 1)
    struct.pack_into("<H", data, entry["method.jpg"] + 10, 99)
    struct.pack_into("<I", data, entry["checksum.jpg"] + 16, 1)
    struct.pack_into("<I", data, entry["large.jpg"] + 24, MAX_PICTURE_BYTES + 1)
    path.write_bytes(bytes(data))


def write_parquet(path, cases, lists):
    """The same rows as a table; `lists`: conversations and pictures in lists, where they can be."""
    rows = [(FIRST, (PHOTO,))]
    for number, (name, case) in enumerate(cases.items()):
        rows.append((case.turns, case.pictures) if name in CASES else (case[0], ()))
        rows.append((beside(number), (picture(20_000 + number, (20, 16), "PNG"),)))
    if lists:
        kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
        talks = pa.array([talk for talk, _ in rows], kind)
    else:
        talks = pa.array([talk if isinstance(talk, str) else dumps(talk) for talk, _ in rows], pa.string())
    pictures = pa.array([list(pictures) for _, pictures in rows], pa.list_(pa.binary()))
    pq.write_table(pa.table({"image_bytes": pictures, "conversations": talks}), path, row_group_size=50)


FOLDER_CASES = {**CASES, **JSON_FAULTS, **LINES, **ONLY_IN_FOLDER}
ZIP_CASES = {**CASES, **JSON_FAULTS, **LINES, **ONLY_IN_ZIP}
TEXT_CASES = {**CASES, **JSON_FAULTS}
# what an Arrow list of structs can hold: each turn has both fields, as text of whole characters
LIST_CASES = {
    name: case
    for name, case in CASES.items()
    if isinstance(case.turns, list)
    and all(isinstance(turn, dict) and set(turn) <= {"role", "content"} for turn in case.turns)
    and not any(isinstance(value, int) for turn in case.turns for value in turn.values())
    and "surrogate" not in name.replace("surrogate pair", "")
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "folder": FOLDER_CASES,
    "zip": ZIP_CASES,
    "text": TEXT_CASES,
    "lists": LIST_CASES,
}


def expected(layout, name):
    """The reasons for which a case is rejected; none: it is accepted."""
    case, split = LAYOUTS[layout][name], SPLIT[layout]
    if name in JSON_FAULTS:
        said = case[1]
        return [f"row_is_readable: the line: {said}" if layout in WHERE else f"conversation_is_turns: {said}"]
    if name not in CASES:
        said = case[1][layout] if isinstance(case[1], dict) else case[1]
        return [] if said is None else [f"row_is_readable: {said.format(where=WHERE[layout])}"]
    if case.reasons == ("again",):
        return [f"no_duplicate: same pictures and conversation as {split}:0"]
    if case.reasons == ("17",):
        too_many = "row_is_readable: image names 17 pictures; a row has at most 16"
        return [too_many] if layout in WHERE else ["pictures_not_many: 17 pictures"]
    return list(case.reasons)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Layout -> (its Parquet file, its verdict), after the real conversion and the real gate."""
    folder = tmp_path_factory.mktemp("malformed")
    text, files = lines_of(FOLDER_CASES)
    (folder / "folder_data.jsonl").write_bytes(text)
    write_folder(folder / "folder_images", files)
    text, files = lines_of(ZIP_CASES)
    (folder / "zip_data.jsonl").write_bytes(text)
    write_zip(folder / "zip_images.zip", files)
    write_parquet(folder / "text", TEXT_CASES, lists=False)
    write_parquet(folder / "lists", LIST_CASES, lists=True)
    heldout = RowSource(write_table(folder / "heldout.parquet", good_rows(2, first=40_000)))
    sources = {
        "folder": RowSource(folder / "folder_data.jsonl", folder / "folder_images"),
        "zip": RowSource(folder / "zip_data.jsonl", folder / "zip_images.zip"),
        "text": RowSource(folder / "text"),
        "lists": RowSource(folder / "lists"),
    }
    results = {}
    for number, (one, two) in enumerate((("folder", "zip"), ("text", "lists"))):
        out = folder / f"download-{number}"
        convert_rows(out, {"pretrain": sources[one], "sft": sources[two], "heldout": heldout})
        tables = {split: out / f"{split}.parquet" for split in ("pretrain", "sft")}
        verdicts = check_tables(tables, limits=LIMITS, max_bad_fraction=1.0, workers=1)
        for layout in (one, two):
            results[layout] = (tables[SPLIT[layout]], verdicts[SPLIT[layout]])
    return results


ROWS = [(layout, name) for layout, cases in LAYOUTS.items() for name in cases]


@pytest.mark.parametrize(("layout", "name"), ROWS)
def test_the_row_is_rejected_for_its_reasons_or_accepted(found, layout, name):
    row = 1 + 2 * list(LAYOUTS[layout]).index(name)
    assert found[layout][1].rejected.get(row, []) == expected(layout, name)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_row_is_lost_and_the_rows_beside_are_untouched(found, layout):
    table, verdict = found[layout]
    cases = LAYOUTS[layout]
    at_fault = [1 + 2 * place for place, name in enumerate(cases) if expected(layout, name)]
    assert verdict.rows == 1 + 2 * len(cases)
    assert list(verdict.rejected) == at_fault
    assert verdict.accepted_rows().tolist() == [row for row in range(verdict.rows) if row not in at_fault]
    rows = {row.number: row for batch in read_rows(table, verdict.accepted_rows()) for row in batch}
    for number in range(len(cases)):
        row = rows[2 + 2 * number]
        assert row.id == row_id(SPLIT[layout], row.number)
        assert [turn._asdict() for turn in row.turns] == beside(number)
        assert row.pictures == (picture(20_000 + number, (20, 16), "PNG"),)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_accepted_rows_keep_their_text_and_their_pictures(found, layout):
    table, verdict = found[layout]
    rows = {row.number: row for batch in read_rows(table, verdict.accepted_rows()) for row in batch}
    for place, (name, case) in enumerate(LAYOUTS[layout].items()):
        if name in CASES and not case.reasons:
            row = rows[1 + 2 * place]
            assert [turn._asdict() for turn in row.turns] == case.turns
            assert row.pictures == row_pictures(list(case.pictures))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_accepted_rows_become_tokens_and_pixels(found, layout, encoder, tmp_path):
    table, verdict = found[layout]
    write_accepted(tmp_path / "accepted.parquet", verdict)
    counts = write_stores(
        {table.stem: Source(table, tmp_path / "accepted.parquet")},
        tmp_path / "tokenize",
        encoder=encoder,
        image_tokens=IMAGE_TOKENS,
        max_length=8000,
        validation_fraction=0.1,
    )
    assert counts[table.stem].rows == verdict.accepted and counts[table.stem].truncated_rows == 0
    for batch in read_rows(table, verdict.accepted_rows()):
        for row in batch:
            assert all(decode(data, 16).shape == (3, 16, 16) for data in row.pictures), row.id


def test_the_kinds_are_many_and_none_is_there_for_show():
    kinds = {**FOLDER_CASES, **ZIP_CASES}
    assert len(kinds) >= 100
    rejected = [name for name in kinds if expected("zip" if name in ONLY_IN_ZIP else "folder", name)]
    assert len(rejected) >= 60


def test_text_that_is_not_utf8_in_a_list_of_turns_is_the_fault_of_its_row(tmp_path):
    turn = pa.struct([("role", pa.binary()), ("content", pa.binary())])
    talks = [[{"role": b"user", "content": b"\xff<image>"}, {"role": b"assistant", "content": b"x"}]]
    talks += [[{"role": b"user", "content": b"<image>"}, {"role": b"assistant", "content": b"x"}], None]
    columns = {"image_bytes": [picture(1), picture(2), None], "conversations": pa.array(talks, pa.list_(turn))}
    schema = pa.schema([("image_bytes", pa.binary()), ("conversations", pa.list_(text_fields()))])
    arrays = [pa.array(columns["image_bytes"]), as_text(columns["conversations"])]
    pq.write_table(pa.table(arrays, schema=schema), tmp_path / "a.parquet")
    source = RowSource(tmp_path / "a.parquet")
    convert_rows(tmp_path / "out", dict.fromkeys(("pretrain", "sft", "heldout"), source))
    tables = {"sft": tmp_path / "out" / "sft.parquet"}
    verdict = check_tables(tables, limits=LIMITS, max_bad_fraction=1.0, workers=1)["sft"]
    assert verdict.rejected == {
        0: ["conversation_is_turns: not UTF-8"],
        2: ["conversation_is_turns: missing"],
    }


def text_fields():
    return pa.struct([("role", pa.string()), ("content", pa.string())])


def as_text(array):
    """The same turns with bytes taken for text, as a writer that does not check would leave them."""
    turn = array.values
    fields = [turn.field(name).view(pa.string()) for name in ("role", "content")]
    valid = pa.array([value is None for value in array.to_pylist()])
    return pa.ListArray.from_arrays(
        array.offsets, pa.StructArray.from_arrays(fields, ["role", "content"]), mask=valid
    )
