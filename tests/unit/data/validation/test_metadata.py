"""Parquet files to metadata frames."""

from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minivlm.data.validation import metadata, parquet_rows
from minivlm.data.validation.parquet_rows import table_rows, table_shape
from minivlm.errors import UserError
from tests.unit.data.validation.rows import caption, good_rows, picture, write_all, write_splits, write_table


def frames(tables, workers=1):
    """The metadata frame of each file, its pieces put together."""
    tables = {file: table_rows(path) for file, path in tables.items()}
    reader = metadata.MetadataReader(tables, train_files=("pretrain", "sft"), max_side=64)
    pieces = {}
    for file, frame in reader.frames(workers):
        pieces.setdefault(file, []).append(frame)
    return {file: pd.concat(parts, ignore_index=True) for file, parts in pieces.items()}


def test_frames_are_the_same_for_one_worker_and_for_two(tmp_path):
    rows = [(caption(str(number)), picture(number % 40)) for number in range(3000)]
    rows[700] = ("no JSON", b"no picture")
    tables = write_all(tmp_path, pretrain=rows)
    alone, together = frames(tables, 1), frames(tables, 2)
    assert list(alone) == list(together) == ["pretrain", "sft", "heldout", "compositional"]
    for split, frame in alone.items():
        assert frame.equals(together[split])
    assert alone["pretrain"]["form"][700].startswith("not JSON")
    assert alone["pretrain"]["decoding"][700] == "not a picture"


def test_each_distinct_picture_is_decoded_once(tmp_path, monkeypatch):
    decoded = []

    def counted(data, *arguments):
        decoded.append(data)
        return original(data, *arguments)

    original = metadata.picture_facts
    monkeypatch.setattr(metadata, "picture_facts", counted)
    rows = [(caption(str(number)), picture(number % 5)) for number in range(600)]  # more than two batches
    frame = frames(write_splits(tmp_path, pretrain=rows, sft=rows))["sft"]
    assert len(decoded) == 5
    assert len(frame) == 600 and set(frame["decoding"]) == {"decodes"}


def test_row_numbers_count_through_batches_and_row_groups(tmp_path):
    table = pa.table({"image_bytes": [picture(1)] * 700, "conversations": [caption(str(n)) for n in range(700)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=300)
    frame = frames({"a": tmp_path / "a.parquet"})["a"]
    assert frame["row"].tolist() == list(range(700))
    assert frame["answer_characters"].tolist() == [len(str(number)) for number in range(700)]


def test_large_string_and_large_binary_columns_are_read(tmp_path):
    schema = pa.schema([("conversations", pa.large_string()), ("image_bytes", pa.large_binary())])
    pq.write_table(pa.table([[caption()], [picture(1)]], schema=schema), tmp_path / "a.parquet")
    assert frames({"a": tmp_path / "a.parquet"})["a"]["decoding"].tolist() == ["decodes"]


def test_text_that_is_not_utf8_is_the_fault_of_its_row_alone(tmp_path):
    texts = pa.array([b"\xff", caption().encode()], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"conversations": texts, "image_bytes": [picture(1)] * 2}), tmp_path / "a.parquet")
    assert frames({"a": tmp_path / "a.parquet"})["a"]["form"].tolist() == ["not UTF-8", "turns"]


def test_a_row_of_too_many_pictures_leaves_the_rows_after_it_their_own(tmp_path):
    many = [picture(number) for number in range(100, 117)]
    alone = picture(3, (20, 24), "PNG", "L")
    rows = [(caption(), picture(1)), (caption(), many), (caption(), alone), (caption(), many[-1:])]
    frame = frames({"a": write_table(tmp_path / "a.parquet", rows)})["a"]
    assert frame["pictures"].tolist() == [1, 17, 1, 1]
    assert frame["width"].tolist() == [16, 16, 20, 16] and frame["height"].tolist() == [16, 16, 24, 16]
    assert frame["mode"].tolist() == ["RGB", "RGB", "L", "RGB"]


def test_a_missing_file_is_one_line_with_the_remedy(tmp_path):
    with pytest.raises(UserError, match=r"sft\.parquet: not found; .*dvc repro download") as error:
        table_shape(tmp_path / "sft.parquet")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_parquet_is_named(tmp_path):
    (tmp_path / "sft.parquet").write_bytes(b"<html>404</html>")
    with pytest.raises(UserError, match=r"sft\.parquet: not a readable Parquet file"):
        table_shape(tmp_path / "sft.parquet")


def test_a_file_damaged_between_header_and_footer_is_named(tmp_path):
    path = write_table(tmp_path / "sft.parquet", good_rows(200))
    data = bytearray(path.read_bytes())
    data[4:2000] = b"\xff" * 1996
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"sft\.parquet: damaged Parquet file") as error:
        frames({"sft": path})
    assert "\n" not in str(error.value)


def test_every_repeat_names_the_first_row_of_its_kind(tmp_path):
    kinds = [("a", 1), ("b", 1), ("a", 1), ("a", 2), ("b", 1), ("a", 1)]
    tables = write_splits(tmp_path, pretrain=[(caption(text), picture(number)) for text, number in kinds])
    found = frames({"pretrain": tables["pretrain"]})["pretrain"]["duplicate_of"]
    assert found.fillna("").tolist() == ["", "", "pretrain:0", "", "pretrain:1", "pretrain:0"]


def test_frames_in_pieces_hold_what_one_frame_holds(tmp_path, monkeypatch):
    rows = [(caption(str(number % 400)), picture(number % 40)) for number in range(700)]
    rows[300] = ("no JSON", b"no picture")
    tables = write_all(tmp_path, pretrain=rows, heldout=[*good_rows(5, first=38), *good_rows(600, first=100)])
    monkeypatch.setattr(parquet_rows, "BATCH_ROWS", 64)
    whole = frames(tables)
    monkeypatch.setattr(metadata, "PIECE_ROWS", 100)
    pieces = frames(tables)
    assert list(pieces) == list(whole)
    for split, frame in whole.items():
        assert frame.equals(pieces[split])
    assert whole["pretrain"]["duplicate_of"][699] == "pretrain:299"
    assert whole["heldout"]["seen_in"][:3].fillna("").tolist() == ["pretrain:38", "pretrain:39", ""]


def test_a_file_that_holds_fewer_rows_than_it_says_is_named(tmp_path):
    rows = table_rows(write_table(tmp_path / "sft.parquet", good_rows(3)))
    with pytest.raises(UserError, match="sft: says that it holds 4 rows and holds 3"):
        list(metadata.MetadataReader({"sft": replace(rows, count=4)}, train_files=(), max_side=64).frames(1))
