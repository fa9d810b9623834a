"""Every expectation of the raw files and of the accepted rows can fail: a table for each that breaks it alone."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minivlm.data.validation import metadata
from minivlm.data.validation.accepted import accepted_checks, check_accepted, write_accepted
from minivlm.data.validation.engine import GreatExpectations
from minivlm.data.validation.expectations import Limits, row_checks, table_checks
from minivlm.data.validation.gate import check_tables
from minivlm.data.validation.parquet_rows import table_shape
from tests.unit.data.validation.rows import caption, good_rows, photo, photos, picture, talk, write_splits

LIMITS = Limits(max_text_characters=100, min_side=8, max_side=64, near_duplicate_bits=4)
ASKED = ("user", "<image>\n请描述这张图片。")
ALONE = talk(("user", "你好"), ("assistant", "你好！"))


ROWS = {
    "row_is_readable": ("sft", [(None, None, "the line is not JSON")]),
    "conversation_is_turns": ("sft", [("oops", photo(90))]),
    "roles_alternate": ("sft", [(talk(ASKED, ("assistant", "好"), ("user", "还有呢？")), photo(90))]),
    "pictures_match_marks": ("sft", [(ALONE, photo(90))]),
    "no_other_image_mark": ("sft", [(talk(ASKED, ("assistant", "一个 <image>")), photo(90))]),
    "answers_have_text": ("sft", [(talk(ASKED, ("assistant", " \n ")), photo(90))]),
    "turns_fit": ("sft", [(caption("长" * 101), photo(90))]),
    "pictures_not_many": (
        "sft",
        [(talk(("user", "<image>" * 17), ("assistant", "好")), [photo(90 + number) for number in range(17)])],
    ),
    "picture_decodes": ("sft", [(caption(), photo(90)[:-200])]),
    "picture_is_rgb": ("sft", [(caption(), picture(1, kind="PNG", mode="I;16"))]),
    "picture_not_small": ("sft", [(caption(), picture(1, (7, 20)))]),
    "picture_not_large": ("sft", [(caption(), picture(1, (20, 65)))]),
    "no_duplicate": ("sft", [(caption(), photo(90))] * 2),
    "one_picture": ("heldout", [(ALONE, None)]),
    "no_leakage": ("heldout", [(caption(), photo(11))]),
    "no_near_leakage": ("heldout", [(caption(), photo(11, quality=60))]),
}
TEXT, BYTES = pa.array([caption()]), pa.array([photo(90)])
TABLES = {
    "has_conversations": {"conversation": TEXT, "image_bytes": BYTES},
    "has_image_bytes": {"conversations": TEXT, "image": BYTES},
    "conversations_type": {"conversations": pa.array([1]), "image_bytes": BYTES},
    "image_bytes_type": {"conversations": TEXT, "image_bytes": pa.array(["a.jpg"])},
    "has_rows": {"conversations": TEXT[:0], "image_bytes": BYTES[:0]},
}
ACCEPTED = {
    "row_is_int64": pa.table({"row": pa.array([0, 1, 3], pa.int32())}),
    "rows_ascend": pa.table({"row": [0, 3, 1]}),
    "rows_not_below": pa.table({"row": [-1, 1, 3]}),
    "rows_not_beyond": pa.table({"row": [0, 1, 4]}),
    "rows_as_reported": pa.table({"row": [0, 1]}),
}


def check(tables):
    return check_tables(tables, limits=LIMITS, max_bad_fraction=0.0, workers=1)


def broken(verdicts):
    """The names of the checks that do not hold, of all files."""
    return [result.check.name for found in verdicts.values() for _, result in found.results if not result.success]


def good(folder, **rows):
    own = {"pretrain": photos(3, 0), "sft": photos(3, 10), "heldout": photos(3, 20)}
    return write_splits(folder, **{split: [*some, *rows.get(split, [])] for split, some in own.items()})


def test_the_good_tables_break_nothing(tmp_path):
    assert broken(check(good(tmp_path))) == []


def test_there_is_a_table_for_every_expectation(tmp_path):
    shape = table_shape(good(tmp_path)["sft"])
    assert list(ROWS) == [check.name for check in row_checks(LIMITS, held_out=True)]
    assert set(TABLES) == {check.name for check in table_checks(shape)}
    assert list(ACCEPTED) == [check.name for check in accepted_checks(4, 3)]


@pytest.mark.parametrize("name", ROWS)
def test_a_row_that_breaks_one_expectation_is_rejected_for_it_alone(tmp_path, name):
    split, rows = ROWS[name]
    verdicts = check(good(tmp_path, **{split: rows}))
    assert broken(verdicts) == [name]
    assert [why.partition(":")[0] for found in verdicts[split].rejected.values() for why in found] == [name]
    assert [found.passed for found in verdicts.values()] == [file != split for file in verdicts]


@pytest.mark.parametrize("name", TABLES)
def test_a_file_that_breaks_one_expectation_fails_for_it_alone(tmp_path, name):
    tables = good(tmp_path)
    pq.write_table(pa.table(TABLES[name]), tables["sft"])
    verdicts = check(tables)
    assert broken(verdicts) == [name] and not verdicts["sft"].passed


def accepted(folder, table=None):
    """The verdicts after the accepted rows of a file of four, of which row 2 is at fault, were read back."""
    engine = GreatExpectations()
    tables = write_splits(folder, sft=[*good_rows(2), ("oops", picture(7)), *good_rows(1, first=8)])
    verdicts = check_tables(tables, limits=Limits(100, 8, 64), max_bad_fraction=0.5, workers=1, engine=engine)
    write_accepted(folder / "sft.parquet", verdicts["sft"])
    assert pq.read_table(folder / "sft.parquet")["row"].to_pylist() == [0, 1, 3]
    if table is not None:
        pq.write_table(table, folder / "sft.parquet")
    return check_accepted(engine, folder, verdicts)["sft"]


def test_what_validate_writes_holds_what_is_expected(tmp_path):
    found = accepted(tmp_path)
    assert found.passed and found.table_faults == []
    assert [result.success for level, result in found.results if level == "accepted"] == [True] * len(ACCEPTED)


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_rows_that_break_one_expectation_fail_the_file_for_it_alone(tmp_path, name):
    found = accepted(tmp_path, ACCEPTED[name])
    results = [(level, result.check.name) for level, result in found.results if not result.success]
    assert results == [("row", "conversation_is_turns"), ("accepted", name)]
    assert not found.passed and len(found.table_faults) == 1


def test_a_renamed_column_of_accepted_rows_is_told(tmp_path):
    found = accepted(tmp_path, pa.table({"rows": [0, 1, 3]}))
    assert found.table_faults == ["of its accepted rows, type: its columns are rows: int64"]


def test_near_duplicates_are_named_counted_and_of_heldout_files_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(metadata, "PIECE_ROWS", 1)
    copies = [
        (caption(), photo(11, 60)),
        (caption("又"), photo(11, 60)),
        (caption(), photo(1, 60)),
        photos(1, 12)[0],
    ]
    verdicts = check(good(tmp_path, sft=[(caption(), photo(2, 60))], heldout=copies))
    heldout = verdicts["heldout"]
    assert {row: [why.partition(" (")[0] for why in found] for row, found in heldout.rejected.items()} == {
        3: ["no_near_leakage: looks like a picture of sft:1"],
        4: ["no_near_leakage: looks like a picture of sft:1"],
        5: ["no_near_leakage: looks like a picture of pretrain:1"],
        6: ["no_leakage: same picture as sft:2"],
    }
    told = heldout.near_duplicates
    assert (told["bits"], told["compared"], told["alike"]) == (4, 5, 2) and sum(told["by_bits"].values()) == 2
    assert verdicts["sft"].near_duplicates is None and verdicts["sft"].passed


def test_pictures_that_look_alike_pass_where_the_search_is_off(tmp_path):
    tables = good(tmp_path, heldout=[(caption(), photo(11, 60))])
    verdicts = check_tables(tables, limits=Limits(100, 8, 64), max_bad_fraction=0.0, workers=1)
    assert verdicts["heldout"].passed and verdicts["heldout"].near_duplicates is None
