"""Which layout a file has, and what it yields."""

import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minivlm.data.formats import jsonl
from minivlm.data.formats.reader import images_beside, open_rows
from minivlm.data.tables import table_schema
from minivlm.errors import UserError

TALK = [{"role": "user", "content": "<image>图"}, {"role": "assistant", "content": "好"}]


def write_lines(path, *images, end="\n"):
    """A line for each `image` value; None: text alone."""
    lines = [json.dumps({"conversations": TALK, **({"image": image} if image else {})}) for image in images]
    path.write_text("\n".join(lines) + end, encoding="utf-8")
    return path


def in_memory(table):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, store_schema=False)
    return sink.getvalue().to_pybytes()


def table_of(name):
    return in_memory(pa.table({"conversations": ["[]"], name: [b"x"]}))


def twice_role():
    """Turns with two fields of one name, which no mapping can hold."""
    turns = pa.StructArray.from_arrays([pa.array(["user"]), pa.array(["x"])], ["role", "role"])
    return in_memory(pa.table({"conversations": pa.ListArray.from_arrays([0, 1], turns), "image_bytes": [b"x"]}))


def rows_of(reader):
    return [row for batch in reader.batches() for row in batch.to_pylist()]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        (tmp_path / "pictures" / f"{number}.jpg").write_bytes(b"picture %d" % number)
    return tmp_path / "pictures"


def test_the_layout_is_found_by_content_not_by_name(tmp_path, folder):
    write_lines(tmp_path / "a.parquet", "0.jpg")
    pq.write_table(pa.table({"conversations": ["[]"], "image_bytes": [b"x"]}), tmp_path / "a.jsonl")
    assert open_rows(tmp_path / "a.parquet", folder).layout == "JSON lines"
    assert open_rows(tmp_path / "a.jsonl").layout == "Parquet"


def test_one_picture_a_row_stays_bytes_and_several_make_a_list(tmp_path, folder):
    one = open_rows(write_lines(tmp_path / "one", "0.jpg", None, "1.jpg"), folder)
    assert one.schema == table_schema(with_fault=True)
    assert [row["image_bytes"] for row in rows_of(one)] == [b"picture 0", None, b"picture 1"]
    two = open_rows(write_lines(tmp_path / "two", "0.jpg", None, "1.jpg, 0.jpg"), folder)
    assert two.schema == table_schema(several=True, with_fault=True)
    assert [row["image_bytes"] for row in rows_of(two)] == [[b"picture 0"], [], [b"picture 1", b"picture 0"]]


def test_a_limit_decides_what_is_read_and_the_type_of_the_column(tmp_path, folder):
    reader = open_rows(write_lines(tmp_path / "a", "0.jpg", "1.jpg", "1.jpg, 0.jpg", "oops"), folder, limit=2)
    assert reader.rows == 2 and reader.schema == table_schema(with_fault=True)
    assert len(rows_of(reader)) == 2


def test_a_byte_order_mark_crlf_and_blank_lines_at_the_end_are_no_rows(tmp_path, folder):
    text = write_lines(tmp_path / "a", "0.jpg", "1.jpg").read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf" + text + b"\r\n  \r\n\n")
    rows = rows_of(open_rows(tmp_path / "a", folder))
    assert [(row["image_bytes"], row["fault"]) for row in rows] == [(b"picture 0", None), (b"picture 1", None)]


def test_a_last_line_without_an_end_is_a_row(tmp_path, folder):
    assert len(rows_of(open_rows(write_lines(tmp_path / "a", "0.jpg", "1.jpg", end=""), folder))) == 2


def test_line_n_is_row_n_less_one_though_blank_lines_stand_between(tmp_path, folder):
    text = write_lines(tmp_path / "a", "0.jpg", "1.jpg").read_text().replace("\n", "\n\n\n", 1)
    (tmp_path / "a").write_text(text)
    rows = rows_of(open_rows(tmp_path / "a", folder))
    assert [row["fault"] for row in rows] == [None, "a blank line", "a blank line", None]


def test_a_line_too_long_to_be_held_is_one_row_at_fault(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(jsonl, "_LONGEST_LINE", 200)
    path = write_lines(tmp_path / "a", "0.jpg", "x" * 1000, "1.jpg")
    reader = open_rows(path, folder)
    assert [row["fault"] for row in rows_of(reader)] == [None, jsonl._TOO_LONG.fault, None]


def test_batches_hold_a_bounded_number_of_bytes(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(jsonl, "BATCH_BYTES", 1000)
    for number in range(4):
        (folder / f"{number}.jpg").write_bytes(bytes(600))
    reader = open_rows(write_lines(tmp_path / "a", *["0.jpg"] * 5, "0.jpg, 1.jpg"), folder)
    sizes = [batch.num_rows for batch in reader.batches()]
    assert sizes == [2, 2, 2]
    assert rows_of(reader)[5]["fault"] == "its pictures are together larger than 1,000 bytes"


def test_rows_that_name_pictures_need_a_place_for_them(tmp_path):
    assert open_rows(write_lines(tmp_path / "text", None)).rows == 1
    with pytest.raises(UserError, match="its rows name pictures; name the folder or zip that holds them"):
        open_rows(write_lines(tmp_path / "a", "0.jpg"))


def test_a_zip_serves_as_a_folder_does(tmp_path, folder):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, f"some/folder/{file.name}")
    path = write_lines(tmp_path / "a", "0.jpg", "folder/1.jpg, some/folder/2.jpg", "x/some/folder/3.jpg")
    rows = rows_of(open_rows(path, tmp_path / "a.zip"))
    assert [row["fault"] for row in rows] == [None] * 3 and rows == rows_of(open_rows(path, folder))


def test_a_member_without_a_name_is_passed_over(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("0.jpg", b"picture 0")
        archive.writestr("-", b"nameless")
    data = (tmp_path / "a.zip").read_bytes()
    entry = data.rindex(b"PK\x01\x02")  # the length of its name is at 28, the name at 46
    end = bytearray(data[data.rindex(b"PK\x05\x06") :])
    end[12:16] = (int.from_bytes(end[12:16], "little") - 1).to_bytes(4, "little")  # size of the directory
    bare = bytearray(data[entry : entry + 46])
    bare[28:30] = b"\0\0"
    (tmp_path / "a.zip").write_bytes(data[:entry] + bytes(bare) + bytes(end))
    assert zipfile.ZipFile(tmp_path / "a.zip").namelist() == ["0.jpg", ""]
    path = write_lines(tmp_path / "a", "0.jpg")
    assert [row["image_bytes"] for row in rows_of(open_rows(path, tmp_path / "a.zip"))] == [b"picture 0"]


def test_the_originals_names_are_found_beside_the_file(tmp_path):
    path = tmp_path / "sft_data.jsonl"
    assert images_beside(path) is None
    (tmp_path / "sft_images.zip").touch()
    assert images_beside(path) == tmp_path / "sft_images.zip"
    (tmp_path / "sft_images").mkdir()
    assert images_beside(path) == tmp_path / "sft_images"


@pytest.mark.parametrize("lists", ["list", "large_list"])
def test_turns_and_pictures_in_lists_become_the_contracts_columns(tmp_path, lists):
    make = getattr(pa, f"{lists}_" if lists == "list" else lists)
    turn = pa.struct([("content", pa.large_string()), ("role", pa.string())])
    pictures = pa.array([[b"1"], [b"2", b"3"], [], None], make(pa.large_binary()))
    table = pa.table({"image_bytes": pictures, "conversations": pa.array([TALK, TALK, [], None], make(turn))})
    pq.write_table(table, tmp_path / "a")
    reader = open_rows(tmp_path / "a")
    assert reader.schema == table_schema(several=True)
    rows = rows_of(reader)
    assert [row["image_bytes"] for row in rows] == [[b"1"], [b"2", b"3"], [], None]
    assert [row["conversations"] and json.loads(row["conversations"]) for row in rows] == [TALK, TALK, [], None]


def test_lists_of_at_most_one_picture_become_bytes(tmp_path):
    pictures = pa.array([[b"1"], [], None, [None], [b"2"]], pa.list_(pa.binary()))
    pq.write_table(pa.table({"image_bytes": pictures, "conversations": ["[]"] * 5}), tmp_path / "a")
    reader = open_rows(tmp_path / "a")
    assert reader.schema == table_schema()
    assert [row["image_bytes"] for row in rows_of(reader)] == [b"1", None, None, None, b"2"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no rows"),
        (b"\n \n", "holds no rows"),
        (b'[{"conversations": []}]', "neither a Parquet file nor JSON lines; it is one JSON list: .+"),
        (b"PK\x03\x04", "neither a Parquet file nor JSON lines"),
        (b"image,text\n", "neither a Parquet file nor JSON lines"),
        (b"PAR1 cut", "not a Parquet file: .+"),
        (table_of("image_bytes").replace(b"image_bytes", b"image\xdebytes"), "not a Parquet file: .+"),
        (twice_role(), "cannot be read: .+"),
    ],
)
def test_a_file_of_neither_layout_is_one_line(tmp_path, content, says):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UserError, match=f"a: {says}$") as error:
        rows_of(open_rows(tmp_path / "a"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "says"), [("b.zip", "not a readable zip: .+"), ("nowhere", "not found; .+")])
def test_a_place_of_pictures_that_is_none_is_one_line(tmp_path, name, says):
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(UserError, match=f"{name}: {says}"):
        open_rows(write_lines(tmp_path / "a", "0.jpg"), tmp_path / name)
    with pytest.raises(UserError, match="not found"):
        open_rows(tmp_path / "missing")
