"""Held-out rows where no file of them is given: no picture of theirs is in training."""

import hashlib
import json

import pyarrow.parquet as pq
import pytest

from minivlm.data.sources import RowSource, convert_rows
from minivlm.data.validation.expectations import Limits
from minivlm.data.validation.gate import check_tables
from minivlm.data.validation.picture import row_pictures
from minivlm.data.validation.report import file_report
from minivlm.errors import UserError
from tests.unit.data.validation.rows import caption, picture, placeholder, talk, write_table

LIMITS = Limits(max_text_characters=100, min_side=8, max_side=64)
BOTH = talk(("user", "<image><image>"), ("assistant", "好"))
FRACTION = 0.3


def is_below(data, fraction=FRACTION):
    return int(hashlib.sha256(data).hexdigest()[16:24], 16) / 2**32 < fraction


BELOW = [picture(number) for number in range(200) if is_below(picture(number))]
ABOVE = [picture(number) for number in range(200) if not is_below(picture(number))]


@pytest.fixture
def divided(tmp_path):
    """The tables after holding out three tenths of the pictures, and their verdicts."""
    pretrain = [(caption(), data) for data in (*ABOVE[:20], *BELOW[:10])]
    pretrain += [(talk(("user", "你好"), ("assistant", "你好！")), placeholder()), (BOTH, [BELOW[0], ABOVE[30]])]
    sft = [*pretrain[:30:2], (caption("另一句话"), BELOW[1]), (caption(), ABOVE[30])]
    sft += [(talk(("user", "你好"), ("assistant", "你好！")), None), (caption("又"), BELOW[0])]
    return divide(tmp_path, pretrain, sft), pretrain, sft


def divide(folder, pretrain, sft, fraction=FRACTION):
    sources = {"pretrain": pretrain, "sft": sft}
    sources = {
        split: RowSource(write_table(folder / f"{split}-source.parquet", rows)) for split, rows in sources.items()
    }
    convert_rows(folder / "download", sources, heldout_fraction=fraction)
    return {split: folder / "download" / f"{split}.parquet" for split in ("pretrain", "sft", "heldout")}


def told(path):
    return [(row["origin"], row_pictures(row["image_bytes"])) for row in pq.read_table(path).to_pylist()]


def test_no_row_is_lost_and_each_says_where_it_was(divided):
    tables, pretrain, sft = divided
    origins = [origin for table in tables.values() for origin, _ in told(table)]
    everywhere = [f"pretrain:{row}" for row in range(len(pretrain))] + [f"sft:{row}" for row in range(len(sft))]
    twice = [f"sft:{row}" for row in range(11, 15)]  # rows of BELOW[2, 4, ...] that pretrain has, word for word
    assert sorted(origins) == sorted(set(everywhere) - set(twice))


def test_rows_of_pictures_below_the_fraction_are_held_out_in_the_order_of_the_files(divided):
    tables, _, _ = divided
    held = told(tables["heldout"])
    assert [origin for origin, _ in held] == [f"pretrain:{row}" for row in range(21, 30)] + ["sft:15"]
    assert [pictures[0] for _, pictures in held] == [*BELOW[1:10], BELOW[1]]
    assert "list" not in str(pq.read_schema(tables["heldout"]).field("image_bytes").type)


def test_a_picture_of_a_row_with_several_stays_in_training_everywhere(divided):
    tables, _, _ = divided
    assert [origin for origin, pictures in told(tables["pretrain"]) if BELOW[0] in pictures] == [
        "pretrain:20",
        "pretrain:31",
    ]
    assert [origin for origin, pictures in told(tables["sft"]) if BELOW[0] in pictures] == ["sft:10", "sft:18"]


def test_the_gate_finds_no_leakage_and_no_duplicate(divided):
    tables, _, _ = divided
    verdicts = check_tables(tables, limits=LIMITS, max_bad_fraction=0.0, workers=1)
    assert [verdict.rejected for verdict in verdicts.values()] == [{}, {}, {}]


def test_the_same_files_give_the_same_bytes(divided, tmp_path):
    tables, pretrain, sft = divided
    again = divide(tmp_path / "again", pretrain, sft)
    assert [path.read_bytes() for path in tables.values()] == [path.read_bytes() for path in again.values()]


def test_a_rejected_row_is_also_named_by_its_place_in_the_source(tmp_path):
    rows = [*((caption(), data) for data in (BELOW[0], ABOVE[0])), ("oops", ABOVE[1])]
    tables = divide(tmp_path, rows, rows[:2])
    verdict = check_tables(tables, limits=LIMITS, max_bad_fraction=1.0, workers=1)["pretrain"]
    (rejected,) = file_report(verdict, 1.0)["rejected_rows"]
    assert (rejected["id"], rejected["origin"]) == ("pretrain:1", "pretrain:2")


def test_rows_at_fault_stay_where_they_were_looked_for(tmp_path):
    (tmp_path / "images").mkdir()
    turns = json.loads(caption())
    lines = []
    for number, data in enumerate((BELOW[0], ABOVE[0])):
        (tmp_path / "images" / f"{number}.jpg").write_bytes(data)
        lines.append(json.dumps({"conversations": turns, "image": f"{number}.jpg"}))
    lines += ["oops", json.dumps({"conversations": turns, "image": "nowhere.jpg"})]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    source = RowSource(tmp_path / "a.jsonl", tmp_path / "images")
    convert_rows(tmp_path / "out", {"pretrain": source, "sft": source}, heldout_fraction=FRACTION)
    assert pq.read_schema(tmp_path / "out/heldout.parquet").names == ["conversations", "image_bytes", "origin"]
    kept = pq.read_table(tmp_path / "out/sft.parquet").to_pylist()
    assert [(row["origin"], row["fault"] is None) for row in kept] == [
        ("sft:1", True),
        ("sft:2", False),
        ("sft:3", False),
    ]


@pytest.mark.parametrize(
    ("pictures", "says"),
    [(ABOVE[:3], "leaves no row for heldout; raise it"), (BELOW[:3], "leaves no row for pretrain; lower it")],
)
def test_a_fraction_that_leaves_a_file_empty_is_one_line(tmp_path, pictures, says):
    rows = [(caption(), data) for data in pictures]
    with pytest.raises(UserError, match=says):
        divide(tmp_path, rows, rows)
    assert not (tmp_path / "download").exists()


def test_without_held_out_rows_and_without_a_fraction_both_ways_out_are_said(tmp_path):
    with pytest.raises(UserError, match=r"heldout is missing; name its file .+ or set download\.heldout_fraction"):
        divide(tmp_path, [(caption(), picture(1))], [(caption(), picture(1))], fraction=0.0)
