"""Files of texts: what a line may be, and that whatever cannot be used is named with its file and line."""

import gzip
import hashlib
import json

import pytest

from minivlm.data import texts as module
from minivlm.data.texts import Document, TextFile, read_texts, survey
from minivlm.data.validation.conversation import Turn
from minivlm.errors import UserError

CHAT = {"conversations": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "你好!"}]}
LINES = [{"text": "第一篇。"}, CHAT, {"text": "third", "id": 7}]
EXPECTED = [
    Document("第一篇。"),
    Document(None, (Turn("user", "你好"), Turn("assistant", "你好!"))),
    Document("third"),
]


def pinned(path, limit=0):
    return TextFile(path, hashlib.sha256(path.read_bytes()).hexdigest(), limit)


def write(path, *lines):
    """Lines as JSON or as the bytes given, gzipped where the name says so."""
    written = [
        line if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False).encode() for line in lines
    ]
    data = b"".join(line + b"\n" for line in written)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return pinned(path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_texts_and_conversations_come_in_the_order_of_the_lines(tmp_path, name):
    file = write(tmp_path / name, *LINES)
    assert list(read_texts([file, file])) == EXPECTED * 2
    found = survey([file])
    assert found == (3, len("第一篇。你好你好!third".encode()))


def test_a_gzipped_file_is_known_by_its_first_bytes_too(tmp_path):
    packed = write(tmp_path / "a.gz", *LINES)
    assert list(read_texts([pinned(packed.path.rename(tmp_path / "a.jsonl"))])) == EXPECTED


def test_the_last_line_needs_no_line_end_and_blank_lines_hold_nothing(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"text": "a"}\r\n\r\n  \n{"text": "b"}')
    assert list(read_texts([pinned(path)])) == [Document("a"), Document("b")]


def test_a_conversation_may_be_its_json_text_as_the_rows_have_it(tmp_path):
    as_text = {"conversations": json.dumps(CHAT["conversations"])}
    assert list(read_texts([write(tmp_path / "a.jsonl", as_text)])) == [EXPECTED[1]]


@pytest.mark.parametrize("limit", [1, 2, 3, 9])
def test_a_limit_takes_the_first_documents_and_reads_no_further(tmp_path, limit):
    file = write(tmp_path / "a.jsonl", LINES[0], b"", *LINES[1:])._replace(limit=limit)
    assert list(read_texts([file])) == EXPECTED[:limit]
    broken = write(tmp_path / "b.jsonl", *LINES, b"{")._replace(limit=3)
    assert survey([broken]).documents == 3


def test_the_same_document_has_the_same_key_wherever_it_stands():
    assert Document("a").key == Document("a").key == hashlib.sha256(b"a").hexdigest()
    assert len({each.key for each in EXPECTED}) == 3
    assert EXPECTED[1].texts == ["你好", "你好!"]


def turns(*some):
    return {"conversations": [{"role": role, "content": content} for role, content in some]}


BAD_LINES: dict[str, list] = {
    "not JSON": [b'{"text": "a"', b"text", b"[" * 100_000, b'{"text": NaN}'],
    "a number of 5,000 digits": [b'{"text": ' + b"9" * 5000 + b"}"],
    "the key 'text' stands twice": [b'{"text": "a", "text": "b"}'],
    "not UTF-8": ["{'text': '你好'}".encode("gb18030")],
    "not a JSON object": [b"[]", b'"text"', b"3"],
    "one of the keys text and conversations": [{"content": "a"}, {}, {"text": "a"} | CHAT],
    "text is null, not a string": [{"text": None}],
    "text is a list, not a string": [{"text": ["a"]}],
    "text is a number, not a string": [{"text": 3}],
    "text is empty": [{"text": ""}, {"text": " \n　"}],
    "text holds a lone surrogate": [b'{"text": "a\\ud83d"}', b'{"text": "\\udc00 b"}'],
    "conversations: ": [
        {"conversations": []}, {"conversations": {}}, {"conversations": ["a"]}, {"conversations": None},
        {"conversations": [{"role": "user"}]}, {"conversations": [{"role": 1, "content": "a"}]},
    ],
    "conversations: not JSON": [{"conversations": "[{"}],
    "lone surrogate": [
        b'{"conversations": [{"role": "user", "content": "\\ud83d"}]}', b'{"conversations": "\\ud83d"}',
    ],
    "role 'bot' is none of user, assistant, system": [turns(("user", "a"), ("bot", "b"))],
    "a turn of user is empty": [turns(("user", " "), ("assistant", "b"))],
    "a turn of assistant is empty": [turns(("user", "a"), ("assistant", ""))],
    "no turn of assistant to learn from": [turns(("user", "a"))],
}  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "line"), [(reason, line) for reason, lines in BAD_LINES.items() for line in lines], ids=lambda x: ""
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_line_that_cannot_be_used_is_named(tmp_path, reason, line, name):
    file = write(tmp_path / name, LINES[0], line, LINES[2])
    with pytest.raises(UserError) as caught:
        survey([file])
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name}: line 2: ")
    assert reason in message
    assert "\n" not in message


def test_a_line_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LONGEST_LINE", 1000)
    file = write(tmp_path / "a.jsonl.gz", LINES[0], {"text": "a" * 100_000})
    with pytest.raises(UserError, match="line 2: longer than 1,000 bytes"):
        survey([file])


def refused(tmp_path, file, *words):
    with pytest.raises(UserError) as caught:
        survey([file])
    message = str(caught.value)
    assert message.startswith(f"{file.path}: ")
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_file_that_is_missing_or_a_folder_is_refused(tmp_path):
    refused(tmp_path, TextFile(tmp_path / "none.jsonl", "0" * 64), "No such file", "base.texts")
    refused(tmp_path, TextFile(tmp_path, "0" * 64), "Is a directory")


def test_another_file_than_the_one_pinned_is_refused_before_it_is_read(tmp_path):
    file = write(tmp_path / "a.jsonl", b"not JSON")
    refused(tmp_path, file._replace(sha256="0" * 64), file.sha256, "0" * 64)


@pytest.mark.parametrize("data", [b"", b"\n \n", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_refused(tmp_path, data):
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    refused(tmp_path, pinned(path), "empty")


def test_a_damaged_gzip_file_is_refused_with_the_line_it_broke_after(tmp_path):
    file = write(tmp_path / "a.jsonl.gz", *LINES * 5000)
    whole = file.path.read_bytes()
    cases = {
        "after line 0: not gzip": b'{"text": "a"}',
        "the gzip file ends too early": whole[: len(whole) // 2],
        "not gzip": whole[:-8] + bytes(8),  # another checksum
        "not gzip (": whole[:10] + b"\xff" * 20,
    }
    for words, data in cases.items():
        file.path.write_bytes(data)
        refused(tmp_path, pinned(file.path), words)
