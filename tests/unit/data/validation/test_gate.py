"""Which rows the gate rejects and why, and when it closes."""

import json
import socket

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minivlm.data.validation import metadata, parquet_rows
from minivlm.data.validation.gate import check_tables
from tests.unit.data.validation.rows import (
    LIMITS,
    caption,
    good_rows,
    picture,
    placeholder,
    spoil,
    talk,
    write_splits,
)

ASKED = ("user", "<image>\n请描述这张图片。")
PHOTO = picture(1)
PLACEHOLDER = placeholder()

# name of the fault -> (conversation, picture, every reason it must be rejected for)
BAD_ROWS = {
    "not JSON": ("oops", picture(100), ["conversation_is_turns: not JSON (Expecting value, character 1)"]),
    "no conversation": (None, picture(101), ["conversation_is_turns: missing"]),
    "not turns": ('{"role": "user"}', picture(102), ["conversation_is_turns: not a list of turns"]),
    "lone surrogate": (
        caption().replace("一", "\\ud83d", 1),
        picture(103),
        ["conversation_is_turns: turn 2 has half a character (lone surrogate)"],
    ),
    "assistant first": (
        talk(("assistant", "<image> 好"), ("user", "好")),
        picture(104),
        [
            "roles_alternate: assistant user",
            "pictures_match_marks: no <image>, 1 picture",
            "no_other_image_mark: 1 times <image> in turns of assistant or system",
        ],
    ),
    "ends with the user": (
        talk(ASKED, ("assistant", "好"), ("user", "还有呢？")),
        picture(105),
        ["roles_alternate: user assistant user"],
    ),
    "no assistant": (talk(ASKED), picture(106), ["roles_alternate: user"]),
    "unknown role": (talk(("human", "<image>"), ("gpt", "好")), picture(107), ["roles_alternate: other other"]),
    "no mark": (
        talk(("user", "请描述"), ("assistant", "好")),
        picture(108),
        ["pictures_match_marks: no <image>, 1 picture"],
    ),
    "doubled mark": (
        talk(("user", "<image><image>"), ("assistant", "好")),
        picture(109),
        ["pictures_match_marks: 2 <image>, 1 picture"],
    ),
    "mark in the answer": (
        talk(ASKED, ("assistant", "一个 <image>")),
        picture(110),
        ["no_other_image_mark: 1 times <image> in turns of assistant or system"],
    ),
    "blank answer": (
        talk(ASKED, ("assistant", " \n ")),
        picture(111),
        ["answers_have_text: an assistant turn without text"],
    ),
    "blank answer in a later round": (
        talk(ASKED, ("assistant", "好"), ("user", "还有呢？"), ("assistant", "")),
        picture(112),
        ["answers_have_text: an assistant turn without text"],
    ),
    "answer too long": (caption("长" * 101), picture(113), ["turns_fit: a turn of 101 characters"]),
    "no picture": (caption(), None, ["pictures_match_marks: 1 <image>, no picture"]),
    "zero bytes": (caption(), b"", ["picture_decodes: zero bytes"]),
    "not a picture": (caption(), b"<html>", ["picture_decodes: not a picture"]),
    "truncated": (caption(), picture(114, (64, 64))[:-200], ["picture_decodes: truncated"]),
    "16 bits": (caption(), picture(115, kind="PNG", mode="I;16"), ["picture_is_rgb: picture of mode I;16"]),
    "too small": (caption(), picture(116, (7, 20)), ["picture_not_small: a side of 7 pixels"]),
    "too large": (caption(), picture(117, (20, 65)), ["picture_not_large: a side of 65 pixels"]),
    "duplicate": (caption(), PHOTO, ["no_duplicate: same pictures and conversation as pretrain:0"]),
    "second picture truncated": (
        talk(("user", "<image><image>"), ("assistant", "好")),
        [picture(118), picture(119, (64, 64))[:-200]],
        ["picture_decodes: picture 2: truncated"],
    ),
    "every picture has a fault of its own": (
        talk(("user", "<image><image><image>"), ("assistant", "好")),
        [picture(120, (20, 65)), picture(121, (7, 20)), picture(122, kind="PNG", mode="I;16")],
        [
            "picture_is_rgb: picture 3: picture of mode I;16",
            "picture_not_small: picture 2: a side of 7 pixels",
            "picture_not_large: picture 1: a side of 65 pixels",
        ],
    ),
    "a picture is missing from a list": (
        talk(("user", "<image><image>"), ("assistant", "好")),
        [picture(123), None],
        ["picture_decodes: picture 2: missing"],
    ),
    "fewer pictures than marks in several turns": (
        talk(ASKED, ("assistant", "好"), ("user", "这张呢？<image>"), ("assistant", "好")),
        picture(124),
        ["pictures_match_marks: 2 <image>, 1 picture"],
    ),
    "too many pictures": (
        talk(("user", "<image>" * 17), ("assistant", "好")),
        [picture(125 + number) for number in range(17)],
        ["pictures_not_many: 17 pictures"],
    ),
    "a mark for the placeholder": (
        caption(),
        PLACEHOLDER,
        ["pictures_match_marks: 1 <image>, no picture (the black 8 x 8 placeholder is none)"],
    ),
    "the same text alone again": (
        talk(("user", "你好"), ("assistant", "你好！")),
        None,
        ["no_duplicate: same pictures and conversation as pretrain:7"],
    ),
    "not to be read": (caption(), None, ["row_is_readable: picture 1 ('a.jpg'): not in the folder"]),
    "neither is its conversation": (None, None, ["row_is_readable: the line is not UTF-8"]),
    "system turn after the user's": (
        talk(ASKED, ("system", "你是一个助手。"), ("assistant", "好")),
        picture(150),
        ["roles_alternate: user system assistant"],
    ),
    "mark in the system turn": (
        talk(("system", "<image>"), ("user", "请描述"), ("assistant", "好")),
        picture(151),
        [
            "pictures_match_marks: no <image>, 1 picture",
            "no_other_image_mark: 1 times <image> in turns of assistant or system",
        ],
    ),
    "several faults": (
        talk(("user", "x"), ("assistant", "")),
        b"",
        [
            "pictures_match_marks: no <image>, 1 picture",
            "answers_have_text: an assistant turn without text",
            "picture_decodes: zero bytes",
        ],
    ),
}
# rows that look like faults and are none
GOOD_ROWS = [
    (caption(), PHOTO),
    (caption("同一张图片，另一句话"), PHOTO),
    (caption(), picture(2)),
    (talk(ASKED, ("assistant", "好"), ("user", "还有呢？"), ("assistant", "没有")), PHOTO),
    (talk(("user", "请描述\n<image>"), ("assistant", "好")), picture(3)),
    (caption("长" * 100), picture(4, (8, 64))),
    (caption(), picture(5, kind="PNG", mode="RGBA")),
    (talk(("user", "你好"), ("assistant", "你好！")), None),
    (talk(("user", "你好"), ("assistant", "您好！")), PLACEHOLDER),
    (talk(("user", "你好"), ("assistant", "您也好！")), []),
    (talk(("user", "<image>和<image>"), ("assistant", "好")), [picture(6), PHOTO]),
    (talk(("user", "<image>和<image>"), ("assistant", "好")), [PHOTO, picture(6)]),
    (talk(ASKED, ("assistant", "好"), ("user", "这张呢？\n<image>"), ("assistant", "好")), [PHOTO, picture(7)]),
    (talk(("system", "你是一个助手。"), ASKED, ("assistant", "好")), picture(8)),
    (caption("@" * 100), picture(9)),
    (caption("一只鹰"), picture(10, (8, 8))),
]


def gate(tables, max_bad_fraction=0.0, workers=1):
    return check_tables(tables, limits=LIMITS, max_bad_fraction=max_bad_fraction, workers=workers)


def mixed_rows():
    """Every good row, then every bad row."""
    told = "row_is_readable: "
    faults = [reasons[0].removeprefix(told) for _, _, reasons in BAD_ROWS.values()]
    bad = [
        (*row[:2], fault if row[2][0].startswith(told) else None)
        for row, fault in zip(BAD_ROWS.values(), faults, strict=True)
    ]
    return [*GOOD_ROWS, *bad]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """The verdict on a pretrain file with all of them."""
    return gate(write_splits(tmp_path_factory.mktemp("mixed"), pretrain=mixed_rows()))["pretrain"]


@pytest.mark.parametrize("fault", BAD_ROWS)
def test_a_bad_row_is_rejected_for_every_reason_and_for_no_other(mixed, fault):
    row = len(GOOD_ROWS) + list(BAD_ROWS).index(fault)
    assert mixed.rejected[row] == BAD_ROWS[fault][2]


def test_rows_without_fault_are_accepted_and_nothing_else(mixed):
    assert mixed.accepted_rows().tolist() == list(range(len(GOOD_ROWS))) and mixed.accepted == len(GOOD_ROWS)
    assert mixed.rows == len(GOOD_ROWS) + len(BAD_ROWS)


def test_every_row_check_has_a_row_that_fails_it(mixed):
    assert [result.check.name for level, result in mixed.results if level == "row" and result.success] == []


def test_unexpected_counts_are_the_rows_that_name_the_check(mixed):
    for level, result in mixed.results:
        if level == "row":
            named = [
                row for row, why in mixed.rejected.items() if any(w.startswith(result.check.name) for w in why)
            ]
            assert result.unexpected == len(named)


def test_what_many_rows_have_in_common_is_kept_once(tmp_path):
    tables = write_splits(tmp_path, pretrain=spoil(good_rows(30), 20))
    found = check_tables(tables, limits=LIMITS, max_bad_fraction=1.0, workers=1)["pretrain"]
    assert len(found.rejected) == 20 and len({id(reasons) for reasons in found.rejected.values()}) == 1
    assert [result for _, result in found.results if result.faults] == []


def test_a_file_checked_in_pieces_gets_the_same_verdict(mixed, tmp_path, monkeypatch):
    tables = write_splits(tmp_path, pretrain=mixed_rows())
    monkeypatch.setattr(parquet_rows, "BATCH_ROWS", 5)
    monkeypatch.setattr(metadata, "PIECE_ROWS", 15)
    assert gate(tables)["pretrain"] == mixed


def test_one_bad_row_fails_the_file_by_default(mixed):
    assert not mixed.passed


@pytest.mark.parametrize(("bad", "passed"), [(28, True), (29, True), (30, False)])
def test_the_permitted_share_of_bad_rows_is_inclusive(tmp_path, bad, passed):
    tables = write_splits(tmp_path, sft=spoil(good_rows(100), bad))
    verdict = gate(tables, max_bad_fraction=0.29)["sft"]  # 0.29 * 100 is 28.999999999999996
    assert verdict.passed is passed


def test_a_file_with_no_row_left_fails_whatever_is_permitted(tmp_path):
    verdict = gate(write_splits(tmp_path, sft=[("no JSON", PHOTO)]), max_bad_fraction=1.0)["sft"]
    assert not verdict.passed and verdict.accepted == 0


def test_the_first_of_three_equal_rows_stays(tmp_path):
    verdict = gate(write_splits(tmp_path, sft=[(caption(), PHOTO)] * 3))["sft"]
    assert verdict.accepted_rows().tolist() == [0]
    assert set(verdict.rejected) == {1, 2}


def test_a_picture_of_training_is_leakage_in_both_heldout_files(tmp_path):
    pretrain, sft = good_rows(3), good_rows(3, first=10)
    heldout = [*good_rows(2, first=20), (caption("另一句话"), sft[1][1])]
    compositional = [(caption("另一句话"), pretrain[2][1]), *good_rows(2, first=30)]
    verdicts = gate(
        write_splits(tmp_path, pretrain=pretrain, sft=sft, heldout=heldout, compositional=compositional)
    )
    assert verdicts["heldout"].rejected == {2: ["no_leakage: same picture as sft:1"]}
    assert verdicts["compositional"].rejected == {0: ["no_leakage: same picture as pretrain:2"]}
    assert verdicts["pretrain"].passed and verdicts["sft"].passed


def test_any_of_several_pictures_is_leakage_and_a_heldout_row_has_one(tmp_path):
    both = talk(("user", "<image><image>"), ("assistant", "好"))
    rows = [(both, [picture(1), picture(2)])]
    alone = talk(("user", "你好"), ("assistant", "你好！"))
    heldout = [(caption(), picture(2)), (both, [picture(3), picture(1)]), (alone, None), (caption(), picture(4))]
    verdict = gate(write_splits(tmp_path, sft=rows, heldout=heldout))["heldout"]
    assert verdict.rejected == {
        0: ["no_leakage: same picture as sft:0"],
        1: ["one_picture: 2 pictures", "no_leakage: picture 2: same picture as sft:0"],
        2: ["one_picture: 0 pictures"],
    }


def test_stages_may_share_pictures_and_so_may_the_heldout_files(tmp_path):
    rows, held = good_rows(3), good_rows(3, first=10)
    verdicts = gate(write_splits(tmp_path, pretrain=rows, sft=rows, heldout=held, compositional=held))
    assert all(verdict.passed for verdict in verdicts.values())


def spoiled(tmp_path, table):
    """The verdicts on a good pretrain file and on an sft file with this table."""
    tables = write_splits(tmp_path, pretrain=good_rows(1), sft=good_rows(1, first=10))
    pq.write_table(table, tables["sft"])
    return gate(tables, max_bad_fraction=1.0)


@pytest.mark.parametrize(
    ("columns", "faults"),
    [
        ({"conversations": [caption()]}, ["image_bytes: no such column"]),
        ({"image_bytes": [PHOTO]}, ["conversations: no such column"]),
        ({"conversations": [1], "image_bytes": [PHOTO]}, ["conversations: of type int64"]),
        ({"conversations": [caption()], "image_bytes": ["x"]}, ["image_bytes: of type string"]),
        ({"conversations": pa.array([], pa.string()), "image_bytes": pa.array([], pa.binary())}, ["rows: none"]),
    ],
)
def test_a_table_that_cannot_be_used_fails_even_when_every_row_may_be_bad(tmp_path, columns, faults):
    verdicts = spoiled(tmp_path, pa.table(columns))
    assert verdicts["sft"].table_faults == faults
    assert not verdicts["sft"].passed and verdicts["sft"].accepted == 0
    assert verdicts["pretrain"].passed


def test_lists_of_pictures_are_a_type_that_may_be_used(tmp_path):
    columns = {"conversations": [caption()], "image_bytes": pa.array([[PHOTO]], pa.large_list(pa.binary()))}
    assert spoiled(tmp_path, pa.table(columns))["sft"].accepted_rows().tolist() == [0]
    columns["image_bytes"] = pa.array([["x"]])
    assert spoiled(tmp_path, pa.table(columns))["sft"].table_faults == ["image_bytes: of type list<string>"]


def test_other_columns_and_their_order_do_not_matter(tmp_path):
    columns = {"scene": [json.dumps({})], "image_bytes": [PHOTO], "rows": [7], "conversations": [caption()]}
    assert spoiled(tmp_path, pa.table(columns))["sft"].passed


def test_the_gate_opens_no_connection(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise AssertionError(f"connection to {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert gate(write_splits(tmp_path, sft=good_rows(1)))["sft"].passed


def test_the_gate_draws_no_progress_bars(tmp_path, capfd):
    gate(write_splits(tmp_path, sft=good_rows(1)))
    assert capfd.readouterr() == ("", "")
