"""Lists that name one large thing many times are told, not decoded."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minivlm.data.formats import list_sizes
from minivlm.data.formats.list_sizes import TooLargeError, check_lists
from minivlm.data.formats.reader import open_rows
from minivlm.errors import UserError

LARGE = b"x" * 1000  # ten of them are what a row may have


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(list_sizes, "BATCH_BYTES", 10_000)


def write(path, pictures, kind=pa.binary(), turns=None, **options):  # noqa: B008, a type is a constant
    text = turns if turns is not None else ["[]"] * len(pictures)
    lists = pa.array(pictures, pa.list_(kind))
    pq.write_table(pa.table({"conversations": text, "image_bytes": lists}), path, **options)
    return path


def check(path, limit=0):
    check_lists(path, ("conversations", "image_bytes"), limit)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("size", [3, 1000])
def test_the_row_that_is_too_large_is_named(tmp_path, kind, size):
    rows = [[LARGE] * 10, None, [], [None, LARGE], [LARGE] * 2, [LARGE] * 11, [LARGE]]
    path = write(tmp_path / "a", rows, kind, row_group_size=size)
    with pytest.raises(TooLargeError, match=r"^row 5: lists that are together larger than 10,000 bytes"):
        check(path)
    check(path, limit=5)
    with pytest.raises(TooLargeError, match="row 5"):
        check(path, limit=6)
    check(write(tmp_path / "b", [row for row in rows if row is None or len(row) < 11], kind))


def test_texts_in_lists_count_as_well(tmp_path):
    turn = {"role": "user", "content": LARGE.decode()}
    turns = [[turn] * 4, [turn] * 10, [turn] * 11, [turn]]
    path = write(tmp_path / "a", [[b"x"]] * 4, turns=turns)
    with pytest.raises(TooLargeError, match=r"^row 2: "):
        check(path)


def test_rows_of_one_picture_are_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(list_sizes, "_sizes", None)
    path = tmp_path / "a"
    pq.write_table(pa.table({"conversations": ["[]"] * 50, "image_bytes": [LARGE * 9] * 50}), path)
    check(path)


@pytest.mark.parametrize("entries", [5, 4])
def test_more_entries_than_memory_has_numbers_for_are_told(tmp_path, monkeypatch, entries):
    monkeypatch.setattr(list_sizes, "_ENTRIES", 4)
    path = write(tmp_path / "a", [[b"x"] * entries])
    if entries == 4:
        check(path)
    else:
        with pytest.raises(TooLargeError, match="image_bytes: lists of 5 entries in 1 rows"):
            check(path)


def test_a_dictionary_that_is_nearly_nothing_when_packed_is_told(tmp_path):
    path = write(tmp_path / "a", [[bytes(200_000)]], compression="zstd")
    with pytest.raises(TooLargeError, match=r"image_bytes: .* bytes, packed into hardly any"):
        check(path)
    check(write(tmp_path / "b", [[bytes(200_000)]], compression="none"))


def test_a_reader_refuses_it_in_one_line_and_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.undo()
    path = write(tmp_path / "a", [[bytes(4 << 20)] * 100], compression="zstd", dictionary_pagesize_limit=1 << 30)
    assert path.stat().st_size < 10_000
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(UserError, match=f"^{path}: row 0: lists .*; leave it out$"):
            list(open_rows(path).batches())
    finally:
        pa.set_memory_pool(before)
    assert pool.max_memory() < 64 << 20  # the row is 400


def test_a_list_whose_parts_have_no_name_is_read_by_its_place(tmp_path):
    path = write(tmp_path / "a", [[LARGE] * 9] * 20)
    with pq.ParquetFile(path) as file:
        name = file.metadata.row_group(0).column(1).path_in_schema.rpartition(".")[2].encode()
    schema, found, parts = path.read_bytes().partition(name)
    path.write_bytes(schema + found + parts.replace(name, b"\xff" * len(name)))
    assert sum(batch.num_rows for batch in open_rows(path).batches()) == 20


def test_a_file_whose_metadata_contradict_its_schema_is_one_line_and_not_the_end_of_the_process(tmp_path):
    """A column that is said to be there always, while its statistics count where it is not."""
    content = write(tmp_path / "a", [[b"x"], [b"y", b"z"]]).read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    optional, always = b"\x02", b"\x00"  # as the schema's elements have them, which come first
    refused = 0
    for place in range(footer, footer + 100):
        if content[place : place + 1] == optional:
            (tmp_path / "b").write_bytes(content[:place] + always + content[place + 1 :])
            try:
                check(tmp_path / "b")
            except (pa.ArrowException, OSError) as error:
                refused += "histogram size mismatch" in str(error)
    assert refused >= 2
