"""How a command ends: its exit code, and what was wrong in one line. docs/commands.md lists the codes."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import typer
from typer.exceptions import TyperException

from minivlm import launcher
from minivlm.errors import StoppedError, UserError
from minivlm.files import full_disk, write_text
from minivlm.terminal import escaped, flush_streams, silence_unread

EXIT_BUG = 1
EXIT_USER_ERROR = 2
EXIT_STOPPED = 75
"""Of a training that was asked to stop and has saved what it goes on from (EX_TEMPFAIL of sysexits.h)."""
EXIT_INTERRUPTED = 130
EXIT_NO_READER = 141
"""Of `minivlm caption … | head -1`, as a shell has it of any command there: 128 + SIGPIPE."""

VERBOSE = "MINIVLM_VERBOSE"
"""Environment variable: not empty and not 0 shows tracebacks. `--verbose` sets it, for other processes too."""


class one_line_errors:  # noqa: N801  (a context manager, used like a function)
    """Turn what is raised into one line on stderr and an exit code; the traceback is shown where VERBOSE asks.

    `keep`: a file for the traceback of what nobody expected: a run of many hours is not repeated to see it.
    """

    def __init__(self, keep: Path | None = None) -> None:
        self._keep = keep

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            flush_streams()
        except OSError as unwritten:
            error = error or unwritten
        if isinstance(error, BrokenPipeError) and silence_unread():  # `minivlm params | head`: nobody reads on
            raise typer.Exit(EXIT_NO_READER) from None
        if error is None or (ending := _ending(error)) is None:
            return
        line, code = ending
        if is_verbose():
            traceback.print_exception(error)
        elif code == EXIT_BUG:
            line += f"; {self._where(error)}"
        line = escaped(line)  # a name in it may hold anything
        if launcher.is_launched():
            launcher.end_rank(line, code)
        print(line, file=sys.stderr, flush=True)
        raise typer.Exit(code) from None

    def _where(self, error: BaseException) -> str:
        if self._keep:
            try:
                write_text(self._keep, "".join(traceback.format_exception(error)))
                return f"traceback: {self._keep}"
            except OSError:  # a full disk: then by hand
                pass
        # DVC starts a stage with the command of dvc.yaml, which takes no option.
        return f"run with {f'{VERBOSE}=1' if 'DVC_STAGE' in os.environ else '--verbose'} for the traceback"


def end_undisturbed() -> None:
    """Ignore Ctrl-C from here on. For the end of what one has ended: a second one would only have Python's own end
    tell a traceback, or end this process by the signal and not with its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def is_verbose() -> bool:
    """Whether tracebacks are asked for."""
    return os.environ.get(VERBOSE, "0") not in ("", "0")


def _ending(error: BaseException) -> tuple[str, int] | None:
    """The line and the exit code; None for what ends a command as it is meant to."""
    if isinstance(error, UserError):
        return f"error: {error}", EXIT_USER_ERROR
    if isinstance(error, OSError) and error.filename is not None:
        # A folder that is a file, no right to write, a full disk: the system says what, the path says where.
        return f"error: {os.fsdecode(error.filename)}: {error.strerror}", EXIT_USER_ERROR
    if (number := full_disk(error)) is not None:
        return f"error: {os.strerror(number)}; make room, and run it again", EXIT_USER_ERROR
    if isinstance(error, StoppedError):
        return f"stopped: {error}; its state is saved, run it again to go on", EXIT_STOPPED
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "interrupted", EXIT_INTERRUPTED
    if isinstance(error, Exception) and not isinstance(error, typer.Exit | TyperException):
        said = " ".join(f"{type(error).__name__}: {error}".split())[:400].rstrip(": ")
        return f"error: unexpected {said}", EXIT_BUG
    return None
