"""What a stream can show: Chinese under any locale, colours, lines that are written over."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import IO, Any


def prepare_streams() -> None:
    """Have the standard streams take Chinese, which they do not under LC_ALL=C; what no text is, is escaped.

    The one place that does so: every command, stage and worker process begins with it.
    """
    codecs.register_error("minivlm", _as_bytes)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=_chinese_encoding(stream.encoding), errors="minivlm")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding=_chinese_encoding(sys.stdin.encoding), errors="surrogateescape")


def _chinese_encoding(encoding: str) -> str:
    """The encoding itself where it has Chinese characters, as UTF-8 and GB18030 have; else UTF-8."""
    try:
        "汉语".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return "utf-8"
    return encoding


def _as_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    """A path or argument that Python could not decode is written as the bytes that it came as."""
    assert isinstance(error, UnicodeEncodeError)
    try:
        return error.object[error.start : error.end].encode("utf-8", "surrogateescape"), error.end
    except UnicodeEncodeError:
        return codecs.backslashreplace_errors(error)


def colours() -> bool | None:
    """Whether to write in colours: NO_COLOR and TERM=dumb say no, FORCE_COLOR yes; None: only to a terminal."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def rewrites(stream: IO[Any]) -> bool:
    """Whether a line on the stream can be written over, as a bar is: not in a pipe, a file, or the log of a CI."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
