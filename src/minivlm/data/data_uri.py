"""A picture as a data: URI: how pages hold one, and how clients send one."""

from __future__ import annotations

import base64
import binascii
import re

_HEADER = re.compile(r"data:image/[\w.+-]+(;[\w.+-]+=[\w.+-]*)*;base64", re.IGNORECASE)
_LONGEST_HEADER = 200  # characters before the comma


def data_uri(content: bytes, kind: str) -> str:
    """An encoded picture as an address that holds it; `kind`: png, jpeg, …"""
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content).decode()}"


def is_data_uri(text: str) -> bool:
    """Whether it begins as one, a sound one or not."""
    return text[:5].lower() == "data:"


def picture_bytes(uri: str) -> bytes:
    """The encoded picture in a data: URI; ValueError says in words what is wrong with any other text."""
    header, comma, data = uri.partition(",")
    if not is_data_uri(header):
        raise ValueError(
            "a picture is sent as a data: URI (data:image/png;base64,…); no address and no file is opened"
        )
    if not comma or len(header) > _LONGEST_HEADER or not _HEADER.fullmatch(header):
        raise ValueError("a data: URI of a picture begins with data:image/<format>;base64,")
    return from_base64(data)


def from_base64(text: str) -> bytes:
    """The bytes; ValueError for anything but base64 without line ends."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: other characters than ASCII
        raise ValueError("not base64") from None
