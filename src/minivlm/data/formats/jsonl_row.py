"""One line of the JSON lines layout -> its conversation and the names of its pictures, or why it has none."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from minivlm.data.strict_json import JsonError, loads
from minivlm.data.validation.picture import MAX_PICTURES


class Line(NamedTuple):
    """What a line says; with a `fault` it names no pictures."""

    conversations: str | None = None  # JSON text
    pictures: tuple[str, ...] = ()  # names, in order
    fault: str | None = None  # why the line is no row


BLANK = Line(fault="a blank line")


def parse_line(raw: bytes) -> Line:
    """Read one line, without its line end.

    `conversations` is a list of turns (or the JSON text of one); whether it is a good one is not judged here.
    `image` is a name, several names parted by commas, or a list of names; without it, or with an empty one, the
    row is of text alone.
    """
    if not raw.strip():
        return BLANK
    try:
        value = loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return Line(fault="the line is not UTF-8")
    except JsonError as fault:
        return Line(fault=f"the line: {fault}")
    if not isinstance(value, dict):
        return Line(fault="the line is no JSON object")
    conversations = value.get("conversations")
    if conversations is None:
        return Line(fault="the line has no conversations")
    text = _as_text(conversations)
    try:
        pictures = _names(value.get("image"))
    except ValueError as error:
        return Line(text, fault=str(error))
    return Line(text, pictures)


def _as_text(conversations: Any) -> str:
    """A conversation as JSON text that UTF-8 can hold: half a surrogate pair stays the escape that it was."""
    text = conversations if isinstance(conversations, str) else json.dumps(conversations, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(conversations)
    return text


def _names(image: Any) -> tuple[str, ...]:
    """The names of a row's pictures; ValueError says what `image` is instead."""
    if isinstance(image, list):
        names = image
    elif isinstance(image, str):
        names = [name.strip() for name in image.split(",")] if image.strip() else []
    elif image is None:
        names = []
    else:
        raise ValueError("image is neither a file name nor a list of them")
    for number, name in enumerate(names, 1):
        if not isinstance(name, str):
            raise ValueError(f"name {number} in image is not text")
        if not name:
            raise ValueError(f"name {number} in image is empty")
    if len(names) > MAX_PICTURES:
        raise ValueError(f"image names {len(names):,} pictures; a row has at most {MAX_PICTURES}")
    return tuple(names)
