"""What a stream can show: Chinese under any locale, colours, lines that are written over, no foreign commands."""

from __future__ import annotations

import codecs
import io
import os
import select
import sys
import unicodedata
from typing import IO, Any, TextIO

from minivlm.errors import UserError


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


def standard_input() -> TextIO:
    """sys.stdin; UserError where there is none, as after `<&-`."""
    if sys.stdin is None:
        raise UserError("standard input is closed; give a file or a pipe (</dev/null for nothing)")
    return sys.stdin


def standard_output() -> TextIO:
    """sys.stdout; UserError where there is none, as after `>&-`: what is written would be lost without a word."""
    if sys.stdout is None:
        raise UserError("standard output is closed; give a file or a pipe (>/dev/null for nowhere)")
    return sys.stdout


def flush_streams() -> None:
    """Write out what waits in the standard streams; BrokenPipeError where nobody reads it."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def silence_unread() -> bool:
    """Whether a standard stream is a pipe that nobody reads any more; it then leads nowhere, quietly."""
    unread = [number for number in (1, 2) if _is_unread(number)]
    for number in unread:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), number)
    return bool(unread)


def _is_unread(number: int) -> bool:
    poll = select.poll()
    poll.register(number, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def decoded(name: str) -> str:
    """A name as UTF-8, which Python reads byte by byte under a C locale; bytes of no text stay surrogates."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # it has half a character of UTF-16, which no byte is read as
        return name


def escaped(text: str) -> str:
    """Foreign text on one line, with nothing that a terminal would obey: a tab is `\\t`, an escape `\\x1b`."""
    return "".join(_escape(c) if is_unseen(c) else c for c in decoded(text))


def is_unseen(character: str) -> bool:
    """Whether a terminal would obey the character, or not show it."""
    return not character.isprintable() and unicodedata.category(character) != "Zs"


def _escape(character: str) -> str:
    """As Python's repr has it; a byte that is no text as the byte."""
    byte = ord(character) - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else ascii(character)[1:-1]


def colours() -> bool | None:
    """Whether to write in colours: NO_COLOR and TERM=dumb say no, FORCE_COLOR yes; None: only to a terminal."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def rewrites(stream: IO[Any]) -> bool:
    """Whether a line on the stream can be written over, as a bar is: not in a pipe, a file, or the log of a CI."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")


def rich_console(**options: Any) -> Any:
    """A rich console that raises BrokenPipeError as `print` does; rich's own ends the process with 1."""
    from rich.console import Console

    class Raising(Console):
        def on_broken_pipe(self) -> None:
            raise  # what is being handled where rich calls this

    return Raising(**options)
