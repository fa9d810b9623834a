"""data/questions.json: entries of another form, pictures elsewhere and pictures that are none end in one line."""

import json

import pytest

from minivlm.errors import UserError
from minivlm.evaluation.questions import read_questions
from tests.unit.evaluation.toys import picture

ENTRY = {"file": "0.png", "title": "t", "question": {"pretrain": "a?", "sft": "b?"}}


@pytest.fixture
def read(tmp_path):
    picture(0).save(tmp_path / "0.png")

    def write_and_read(content):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "questions.json").write_text(text, encoding="utf-8")
        return read_questions(tmp_path / "questions.json", tmp_path)

    return write_and_read


def test_entries_are_read_in_order(read):
    one, two = read([ENTRY, ENTRY | {"title": "u"}])
    assert (one.title, two.title, one.questions["sft"]) == ("t", "u", "b?")
    assert one.decode().size == picture(0).size


@pytest.mark.parametrize("file", ["../0.png", "/etc/passwd", "a/0.png", "", ".", ".."])
def test_a_picture_elsewhere_is_refused(read, file):
    with pytest.raises(UserError, match="is no name of a file"):
        read([ENTRY | {"file": file}])


@pytest.mark.parametrize("content", ["", "{", "3", "[3]", "[[]]", "[null]", "[" * 5000, '[{"file": 3}]', "[{}]"])
def test_what_is_no_list_of_pictures_is_one_line(read, content):
    with pytest.raises(UserError, match=r"questions\.json") as caught:
        read(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe EPSF-3.0"])
def test_a_picture_that_is_none_is_one_line(read, tmp_path, content):
    [entry] = read([ENTRY])
    (tmp_path / "0.png").write_bytes(content)
    with pytest.raises(UserError, match=r"0\.png: "):
        entry.decode()
