"""What the tokenizer learns from: all of it while it is little, a share chosen by hash where it is much."""

import hashlib
import json

import pytest

from minivlm.data.rows import Row
from minivlm.data.texts import TextFile, survey
from minivlm.data.validation.conversation import Turn
from minivlm.training.base_data import conversations, tokenizer_texts
from tests.unit.data.toys import picture


def row(split, i):
    return Row(i, f"{split}:{i}", [Turn("user", f"{split} {i}?"), Turn("assistant", f"第{i}张。")], (picture(i),))


SPLITS = [[row("pretrain", i) for i in range(200)], [row("sft", i) for i in range(100)]]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"text {i}"}) for i in range(300)), encoding="utf-8")
    return TextFile(path, hashlib.sha256(path.read_bytes()).hexdigest())


def test_little_is_taken_whole_and_in_order(file):
    got = [*tokenizer_texts(SPLITS, [file], survey([file]))]
    assert got[:4] == ["pretrain 0?", "第0张。", "pretrain 1?", "第1张。"]
    assert got[400:402] == ["sft 0?", "第0张。"]
    assert got[600:] == [f"text {i}" for i in range(300)]


def test_of_much_about_as_much_is_taken_as_asked_of_rows_and_of_texts(file):
    got = [*tokenizer_texts(SPLITS, [file], survey([file]), most_bytes=1200)]
    of_texts = [text for text in got if text.startswith("text")]
    of_rows = [text for text in got if not text.startswith("text")]
    for some in (of_texts, of_rows):
        assert 800 < sum(len(text.encode()) for text in some) < 1600


def test_what_is_taken_does_not_depend_on_its_place(file):
    found = survey([file])
    first = [*tokenizer_texts(SPLITS, [file], found, most_bytes=1200)]
    again = [*tokenizer_texts(SPLITS[::-1], [file], found, most_bytes=1200)]
    assert first != again
    assert sorted(first) == sorted(again)


def test_conversations_keep_the_key_of_their_picture_and_leave_the_picture():
    some = [*conversations({"pretrain": SPLITS[0], "sft": SPLITS[1]})]
    assert len(some) == 300
    assert some[5].key == hashlib.sha256(picture(5)).hexdigest() == some[205].key
    assert all(each.row.pictures == () for each in some)
