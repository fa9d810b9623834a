"""Picture-caption pairs: which rows give one, which are held back, and what is decoded."""

import hashlib

import numpy as np
import pytest

from minivlm.data import pairs as module
from minivlm.data.pairs import AcceptedRows, DecodedPictures, Pairs, is_validation, picture_key
from minivlm.data.pictures import decode
from minivlm.data.rows import Row
from minivlm.data.shares import Purpose, place
from minivlm.data.tokenization import validation_rows
from minivlm.data.validation.conversation import Turn
from tests.unit.data.toys import SIDE, captions, picture, write_source


def row(number, answer="三只。", pictures=(), question="几只?"):
    turns = [Turn("user", question)] + ([Turn("assistant", answer)] if answer is not None else [])
    return Row(number, f"pretrain:{number}", turns, tuple(pictures))


def test_rows_are_the_accepted_ones_in_order_as_often_as_they_are_gone_through(tmp_path):
    source = write_source(tmp_path, "pretrain", captions(9), accepted=[1, 2, 8])
    rows = AcceptedRows(source.table, source.accepted)
    for _ in range(2):
        assert [each.id for each in rows] == ["pretrain:1", "pretrain:2", "pretrain:8"]


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_a_pair_is_held_back_with_its_picture(fraction):
    rows = [row(i, pictures=[picture(i % 12)]) for i in range(30)]
    expected = [is_validation(picture_key(each), fraction) for each in rows]
    assert Pairs.read(rows).held_back(fraction).tolist() == expected
    assert Pairs.read([]).held_back(fraction).tolist() == []


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.7])
def test_the_pictures_held_back_are_those_that_tokenize_holds_back(fraction):
    rows = [row(i, pictures=[b"picture %d" % (i // 2)]) for i in range(400)]
    places = [place(hashlib.sha256(each.pictures[0]).digest(), Purpose.VALIDATION) for each in rows]
    expected = validation_rows({"pretrain": np.array(places)}, fraction)["pretrain"]
    assert [is_validation(picture_key(each), fraction) for each in rows] == expected.tolist()


def test_tokenize_and_base_hold_back_the_same_rows_pictures_or_not(written, tokens):
    table = written.parent / "artifacts" / "download" / "pretrain.parquet"
    accepted = written.parent / "artifacts" / "validate" / "pretrain.parquet"
    rows = list(AcceptedRows(table, accepted))
    assert not rows[-1].pictures
    kept = [i for i, each in enumerate(rows) if is_validation(picture_key(each), 0.2)]
    assert kept == tokens.validation_rows().tolist()


def test_the_key_of_a_row_without_a_picture_is_that_of_its_turns():
    assert picture_key(row(1)) == picture_key(row(2)) == hashlib.sha256(repr(row(1).turns).encode()).hexdigest()
    assert picture_key(row(1)) != picture_key(row(1, question="什么颜色?"))


def test_no_picture_is_held_back_by_a_fraction_of_nothing():
    assert not is_validation("0" * 64, 0.0)
    assert is_validation("f" * 64, 1.0)


def test_pairs_leave_out_rows_without_picture_or_answer_and_count_a_picture_once():
    one, two = picture(1), picture(2)
    rows = [
        row(0, "甲", [two]),
        row(1, "乙"),
        row(2, "丙", [one, two]),
        row(3, None, [one]),
        row(4, "", [one]),
        row(5, "丁", [two]),
    ]
    pairs = Pairs.read(rows)
    assert pairs.pictures == [two, one]
    assert pairs.picture.tolist() == [0, 1, 0]
    assert pairs.captions == ["甲", "丙", "丁"]


def test_a_caption_is_the_first_answer():
    turns = [Turn("user", "几只?"), Turn("assistant", "三只。"), Turn("user", "?"), Turn("assistant", "红色。")]
    assert Pairs.read([Row(0, "sft:0", turns, (picture(1),))]).captions == ["三只。"]


def test_no_rows_give_no_pairs():
    pairs = Pairs.read([])
    assert (pairs.pictures, pairs.captions, pairs.picture.shape) == ([], [], (0,))


def test_decoded_pictures_are_those_of_decode_and_decoded_once(monkeypatch):
    encoded = [picture(i, size=(30, 20)) for i in range(3)]
    calls = []
    monkeypatch.setattr(module, "decode", lambda data, side: calls.append(data) or decode(data, side))
    decoded = DecodedPictures(encoded, SIDE)
    for i in (2, 0, 2, 2):
        assert np.array_equal(decoded[i], decode(encoded[i], SIDE))
    assert calls == [encoded[2], encoded[0]]


def test_pictures_beyond_the_memory_allowed_are_decoded_anew(monkeypatch):
    monkeypatch.setattr(module, "_CACHE_BYTES", 3 * SIDE * SIDE)
    decoded = DecodedPictures([picture(i) for i in range(3)], SIDE)
    kept = decoded[0]
    for i in (0, 1, 2, 1):
        assert np.array_equal(decoded[i], decode(picture(i), SIDE))
    assert decoded[0] is kept
    assert decoded[1] is not decoded[1]
