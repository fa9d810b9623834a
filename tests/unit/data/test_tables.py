"""Columns of pictures in either form, and bounds on what is held at once."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minivlm.data import tables
from minivlm.data.tables import GroupedWriter, as_pictures, open_rows, row_batches, table_schema


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.binary()), pa.large_list(pa.large_binary()), pa.list_(pa.large_binary())]
)
def test_a_list_of_at_most_one_becomes_that_picture(kind):
    column = pa.array([[b"0"], [b"1"], None, [], [None], [b"2"]], kind).slice(1)
    assert as_pictures(column, pa.binary()).to_pylist() == [b"1", None, None, None, b"2"]


def test_lists_of_fixed_length_are_lists():
    column = pa.array([[b"1"], None, [b"2"]], pa.list_(pa.binary(), 1))
    assert as_pictures(column, pa.binary()).to_pylist() == [b"1", None, b"2"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_a_picture_becomes_a_list_of_one_and_none_an_empty_list(kind):
    column = pa.array([b"0", None, b"1", b"2"], kind).slice(1)
    assert as_pictures(column, pa.list_(pa.binary())).to_pylist() == [[], [b"1"], [b"2"]]


def read(path, most):
    with open_rows(path) as file:
        return list(row_batches(file, most, ["x"]))


def test_rows_are_read_in_as_many_as_are_asked_for(tmp_path):
    data = [bytes([number]) * 10 for number in range(40)]
    pq.write_table(pa.table({"x": data, "y": data}), tmp_path / "a", row_group_size=20)
    for most in (1, 3, 8, 1000):
        batches = read(tmp_path / "a", most)
        assert [value for batch in batches for value in batch["x"].to_pylist()] == data
        assert batches[0].schema.names == ["x"]
        assert max(batch.num_rows for batch in batches) == min(most, 40)
    pq.write_table(pa.table({"x": data}).slice(0, 0), tmp_path / "empty")
    assert sum(batch.num_rows for batch in read(tmp_path / "empty", 8)) == 0


def test_fewer_rows_are_held_where_rows_are_large(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "READ_BYTES", 10_000)
    data = [b"x" * size for size in (*[10] * 30, 30_000, 30_000, *[2000] * 30)]
    pq.write_table(pa.table({"x": data}), tmp_path / "a", compression="zstd")
    batches = read(tmp_path / "a", 1000)
    assert [value for batch in batches for value in batch["x"].to_pylist()] == data
    assert max(batch.nbytes for batch in batches if batch.num_rows > 1) <= 10_000
    assert len(batches) < 15  # not one by one


@pytest.mark.parametrize("several", [False, True], ids=["a picture", "a list of pictures"])
def test_a_dictionary_does_not_make_memory_of_few_bytes(tmp_path, monkeypatch, several):
    monkeypatch.setattr(tables, "READ_BYTES", 4 << 20)
    data = bytes(1 << 20)
    column = pa.array([[data] * 4] * 50 if several else [data] * 200)
    pq.write_table(pa.table({"x": column}), tmp_path / "a", compression="zstd", dictionary_pagesize_limit=1 << 30)
    assert (tmp_path / "a").stat().st_size < 10_000
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    try:
        with open_rows(tmp_path / "a") as file:
            rows = sum(batch.num_rows for batch in row_batches(file, 1000, ["x"]))
    finally:
        pa.set_memory_pool(before)
    assert rows == len(column)
    assert pool.max_memory() < 32 << 20  # all at once would be 200


def test_small_batches_are_gathered_into_whole_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP", 10)
    schema = table_schema()
    texts = [str(number) for number in range(47)]
    with GroupedWriter(tmp_path / "a", schema) as writer:
        for start in range(0, 47, 3):
            part = texts[start : start + 3]
            writer.write(pa.record_batch([pa.array(part), pa.array([b"x"] * len(part))], schema=schema))
        writer.write(pa.record_batch([pa.array([], pa.string()), pa.array([], pa.binary())], schema=schema))
    assert writer.rows == 47
    found = pq.ParquetFile(tmp_path / "a")
    assert [found.metadata.row_group(number).num_rows for number in range(5)] == [10, 10, 10, 10, 7]
    assert found.read()["conversations"].to_pylist() == texts


def test_a_picture_that_repeats_in_lists_is_stored_once_in_a_group(tmp_path):
    schema, picture = table_schema(several=True), bytes(range(256)) * 40
    with GroupedWriter(tmp_path / "a", schema) as writer:
        writer.write(pa.record_batch([pa.array(["x"] * 200), pa.array([[picture, picture]] * 200)], schema=schema))
    assert (tmp_path / "a").stat().st_size < 10 * len(picture)
