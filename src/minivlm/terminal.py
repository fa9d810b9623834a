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

_SHOWN = ("Zs", "Cs")
"""Categories that Python calls not printable: spaces, and bytes of a path that are written as they came."""


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


def escaped(text: str) -> str:
    """Foreign text on one line, with nothing that a terminal would obey: a tab is `\\t`, an escape `\\x1b`."""
    return "".join(c if c.isprintable() or unicodedata.category(c) in _SHOWN else ascii(c)[1:-1] for c in text)


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
