"""Held-out rows become pictures with all their references."""

import json

import pytest

from minivlm.data.scenes.world import Group, Item, Scene, Truth
from minivlm.errors import UserError
from minivlm.evaluation.heldout import read_heldout
from tests.unit.evaluation.toys import conversation, picture_bytes, write_table

A, B, C = (picture_bytes(i) for i in range(3))
SCENE = Truth("day", "sea", (Group("boat", 2, "red"),))


@pytest.fixture
def table(tmp_path):
    return write_table(
        tmp_path / "heldout.parquet",
        [
            (conversation("一句话？", "两只红船"), A),
            (conversation("一句话？", "三只鸟"), B),
            (conversation("详细？", "大海上有两只红船。"), A),
            (conversation("几只船？", "两只。", "什么颜色？", "红色。"), A),
            (conversation("一句话？", "两只红船"), A),
            (conversation("几只？", "四只。", "在哪？", "天上。"), C),
        ],
    )


def test_rows_are_grouped_by_the_bytes_of_their_picture(table):
    heldout = read_heldout(table, "heldout", 10)
    assert [p.id for p in heldout.pictures] == ["heldout:0", "heldout:1", "heldout:5"]
    assert [row.picture for row in heldout.rows] == [0, 1, 0, 0, 0, 2]
    assert [p.content for p in heldout.pictures] == [A, B, C]
    assert not heldout.has_truth


def test_references_are_the_answers_of_single_question_rows_each_once(table):
    heldout = read_heldout(table, "heldout", 10)
    assert heldout.pictures[0].references == ("两只红船", "大海上有两只红船。")
    assert heldout.pictures[2].references == ("四只。",), "the first answer, where there is no single question"


def test_a_file_with_lists_of_pictures_is_read_alike(table, tmp_path):
    rows = [(conversation("一句话？", "两只红船"), [A]), (conversation("一句话？", "三只鸟"), [B])]
    heldout = read_heldout(write_table(tmp_path / "lists.parquet", rows), "heldout", 10)
    assert [p.content for p in heldout.pictures] == [A, B]


def test_a_system_turn_is_no_question_and_makes_no_answer_a_reference(tmp_path):
    turns = json.loads(conversation("一句话？", "两只红船"))
    turns.insert(0, {"role": "system", "content": "你是助手。"})
    rows = [(json.dumps(turns, ensure_ascii=False), A)]
    heldout = read_heldout(write_table(tmp_path / "system.parquet", rows), "heldout", 10)
    assert heldout.pictures[0].references == ("两只红船",)


def test_rows_that_validation_rejected_are_not_scored(table):
    heldout = read_heldout(table, "heldout", 10, accepted=[1, 2])
    assert [row.number for row in heldout.rows] == [1, 2]
    assert heldout.pictures[1].references == ("大海上有两只红船。",)


def test_the_bound_takes_whole_pictures_whatever_the_order_of_the_file(table, tmp_path):
    small = read_heldout(table, "heldout", 2)
    assert len(small.pictures) == 2
    assert {row.picture for row in small.rows} == {0, 1}
    reordered = [(conversation("?", "x"), picture) for picture in (C, B, A)]
    other = read_heldout(write_table(tmp_path / "other.parquet", reordered), "heldout", 2)
    assert {p.sha256 for p in other.pictures} == {p.sha256 for p in small.pictures}


def test_a_sample_holds_all_rows_of_its_pictures(table):
    heldout = read_heldout(table, "heldout", 10)
    some = heldout.sample(2)
    assert [p.sha256 for p in some.pictures] == [p.sha256 for p in read_heldout(table, "heldout", 2).pictures]
    for row in some.rows:
        assert some.pictures[row.picture] == heldout.pictures[heldout.rows[row.number].picture]
    assert len(some.rows) == sum(heldout.pictures[row.picture] in some.pictures for row in heldout.rows)


def test_scenes_are_read_as_truth(tmp_path):
    text = json.dumps({**SCENE.to_json(), "layout": {"horizon": 0.5}})
    path = write_table(
        tmp_path / "h.parquet", [(conversation("?", "x"), A, text), (conversation("?", "y"), B, text)]
    )
    heldout = read_heldout(path, "heldout", 10)
    assert heldout.has_truth
    assert heldout.pictures[0].truth == SCENE
    assert heldout.pictures[0].scene is None, "it is not told where everything is"


def test_a_scene_that_was_drawn_is_known_with_its_places(tmp_path):
    item = Item(group=0, x=0.5, y=0.25, size=0.1, flip=False, variant=0.0)
    drawn = Scene("day", "sea", (Group("bird", 1, "red"),), (item,), 0.5, 0.0, 0.0, 0.5, 0.5, 0.5, 1.0, 1)
    path = write_table(tmp_path / "h.parquet", [(conversation("?", "x"), A, json.dumps(drawn.to_json()))])
    assert read_heldout(path, "heldout", 10).pictures[0].scene == drawn


def test_pictures_partly_without_scene_are_an_error(tmp_path):
    text = json.dumps(SCENE.to_json())
    path = write_table(
        tmp_path / "h.parquet", [(conversation("?", "x"), A, text), (conversation("?", "y"), B, None)]
    )
    with pytest.raises(UserError, match="1 pictures have no scene"):
        read_heldout(path, "heldout", 10)


def test_a_split_without_rows_is_an_error(table):
    with pytest.raises(UserError, match="no row to evaluate"):
        read_heldout(table, "heldout", 10, accepted=[])


def test_a_file_that_is_missing_or_cut_short_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="not found; run the download stage"):
        read_heldout(tmp_path / "heldout.parquet", "heldout", 10)
    (tmp_path / "heldout.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match="damaged Parquet file"):
        read_heldout(tmp_path / "heldout.parquet", "heldout", 10)
