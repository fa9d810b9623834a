"""Texts to learn a language from: files of JSON lines -> documents, streamed.

A line is `{"text": …}` or `{"conversations": [{"role": …, "content": …}, …]}`; other keys are allowed and not
read. A file is plain or gzipped. A line that cannot be used stops the reading with the file and the line's number:
nothing is left out silently. Blank lines hold nothing; they are counted and passed over.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from minivlm.data.strict_json import loads, shown
from minivlm.data.validation.conversation import KNOWN_ROLES, ConversationError, Turn, parse_turns
from minivlm.errors import UserError
from minivlm.files import sha256_file

LONGEST_LINE = 1 << 24  # bytes: a gzipped file may hold a line that fills any memory
_GZIP = b"\x1f\x8b"  # no JSON begins with these
_BOM = b"\xef\xbb\xbf"


class TextFile(NamedTuple):
    """A file of texts, as params.yaml pins it."""

    path: Path
    sha256: str
    limit: int = 0  # documents taken, 0 = all


class Document(NamedTuple):
    """One line: a text, or the turns of a conversation."""

    text: str | None
    turns: tuple[Turn, ...] = ()

    @property
    def key(self) -> str:
        """sha256 in hex, the same wherever the document stands."""
        return hashlib.sha256((repr(list(self.turns)) if self.text is None else self.text).encode()).hexdigest()

    @property
    def texts(self) -> list[str]:
        """What is written in it."""
        return [turn.content for turn in self.turns] if self.text is None else [self.text]


class Survey(NamedTuple):
    """What the files hold."""

    documents: int
    bytes: int  # of their texts, in UTF-8


def survey(files: Iterable[TextFile]) -> Survey:
    """Check hashes and every line that will be read, before anything is computed; UserError as `read_texts`."""
    documents = size = 0
    for file in files:
        try:
            digest = sha256_file(file.path)
        except OSError as error:
            raise UserError(f"{file.path}: {error.strerror}; it is named in base.texts") from None
        if digest != file.sha256:
            raise UserError(
                f"{file.path}: its sha256 is {digest}, not {file.sha256} as in base.texts; "
                "put the file back, or the new hash into params.yaml"
            )
        before = documents
        for document in read_texts([file]):
            documents += 1
            size += sum(len(text.encode()) for text in document.texts)
        if documents == before:
            raise UserError(f"{file.path}: empty; base.texts takes JSON lines of text or of conversations")
    return Survey(documents, size)


def read_texts(files: Iterable[TextFile]) -> Iterator[Document]:
    """The documents of the files, in order; UserError names the file and the line that cannot be used."""
    for file in files:
        taken = 0
        for number, line in _lines(file.path):
            if file.limit and taken == file.limit:
                break
            if not line.strip():
                continue
            try:
                yield parse_line(line)
            except ValueError as error:
                raise UserError(f"{file.path}: line {number:,}: {error}") from None
            taken += 1


def parse_line(line: bytes) -> Document:
    """One line's document; ValueError says what is wrong with it."""
    try:
        value = loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if ("text" in value) == ("conversations" in value):
        raise ValueError("it needs one of the keys text and conversations")
    if "text" in value:
        return Document(_text(value["text"]))
    return Document(None, tuple(_turns(value["conversations"])))


def _text(text: object) -> str:
    if not isinstance(text, str):
        raise ValueError(f"text is {_kind(text)}, not a string")
    if not text.strip():
        raise ValueError("text is empty")
    try:
        text.encode()
    except UnicodeEncodeError:  # an escape such as \ud83d without its other half: no UTF-8 can hold it
        raise ValueError("text holds a lone surrogate") from None
    return text


def _turns(value: object) -> list[Turn]:
    """A list of turns, or its JSON text as the rows of pictures have it."""
    try:
        written = value if isinstance(value, str) else json.dumps(value)
        turns = parse_turns(written.encode())
    except UnicodeEncodeError:
        raise ValueError("conversations: lone surrogate") from None
    except (ConversationError, RecursionError) as error:
        raise ValueError(f"conversations: {error}") from None
    for turn in turns:
        if turn.role not in KNOWN_ROLES:
            raise ValueError(f"conversations: role {shown(turn.role)} is none of {', '.join(KNOWN_ROLES)}")
        if not turn.content.strip():
            raise ValueError(f"conversations: a turn of {turn.role} is empty")
    if all(turn.role != "assistant" for turn in turns):
        raise ValueError("conversations: no turn of assistant to learn from")
    return turns


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", bool: "a truth value", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) of a plain or gzipped file."""
    number = 0
    try:
        with path.open("rb") as raw:
            packed = path.suffix == ".gz" or raw.peek(2)[:2] == _GZIP
            with gzip.GzipFile(fileobj=raw) if packed else raw as stream:
                while line := stream.readline(LONGEST_LINE + 1):
                    number += 1
                    if len(line) > LONGEST_LINE:
                        raise UserError(f"{path}: line {number:,}: longer than {LONGEST_LINE:,} bytes")
                    yield number, line.removeprefix(_BOM) if number == 1 else line
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: after line {number:,}: not gzip ({error}); fetch or make it again") from None
    except EOFError:
        raise UserError(f"{path}: after line {number:,}: the gzip file ends too early; fetch it again") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
