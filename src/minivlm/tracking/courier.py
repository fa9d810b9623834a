"""A process beside each stage that brings its journal to MLflow.

MLflow costs two seconds to import and as long as its server likes to answer; the stage writes its journal and goes
on. The courier first brings what earlier stages have left, and then reads on whenever it is poked through a pipe.
Where the pipe ends, the stage has: it sends the rest and removes the journal, or says where it is kept.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minivlm.tracking.journal import Journal, JournalReader, OpenRuns, Operation

PATIENCE = 60.0
"""Seconds that a stage waits at its end until MLflow has everything; then the courier goes on alone."""
PATIENCE_STOPPED = 5.0
"""The same for a stage that was asked to stop."""
_LET_GO = signal.SIGUSR1
"""To a courier that goes on alone: to say no more where the stage wrote, so that who reads there sees its end."""


class Courier:
    """The stage's side: writes the journal, wakes the process that delivers it, and never fails: it warns."""

    def __init__(self, journal: Journal, home: Path, experiment: str) -> None:
        self.journal = journal
        self._is_broken = False
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = start(journal.path, home, experiment)
        except OSError as error:
            _warn(f"MLflow gets nothing for now, {error}")

    @property
    def pid(self) -> int | None:
        """The process; None where there is none."""
        return self._process.pid if self._process else None

    def submit(self, operation: Operation) -> None:
        """Write an operation down; `flush` has it sent."""
        try:
            self.journal.append(operation)
        except OSError as error:
            self._lost(error)

    def keep(self, source: Any, *, link: bool = False) -> Path | None:
        """A copy of a path or PIL image beside the journal, to be named in an operation; None when it fails.

        `link`: see `Journal.keep`.
        """
        try:
            return self.journal.keep(source, link=link)
        except OSError as error:
            self._lost(error)
            return None

    def keep_made(self, name: str, make: Callable[[Path], None]) -> Path | None:
        """A directory `name` beside the journal that `make` has made there; None when that fails."""
        try:
            folder = self.journal.new_folder() / name
            make(folder)
            return folder
        except OSError as error:
            self._lost(error)
            return None

    def flush(self) -> None:
        """Have what is written sent, soon; does not wait for it."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):  # full of pokes, or the process has ended: close says so
                os.write(self._process.stdin.fileno(), b".")

    def close(self, is_stopped: bool = False) -> None:
        """Wait until MLflow has everything, or has failed; for PATIENCE at most, of a stopped stage its own."""
        path = self.journal.path
        self.journal.close()
        if self._process is None or self._process.stdin is None:
            _warn(kept(path))
            return
        self._process.stdin.close()
        try:
            if self._process.wait(PATIENCE_STOPPED if is_stopped else PATIENCE):
                _warn(kept(path))
        except subprocess.TimeoutExpired:
            self._process.send_signal(_LET_GO)
            _warn(f"MLflow is slow; this run is still sent, from {path}")

    def _lost(self, error: OSError) -> None:
        if not self._is_broken:
            self._is_broken = True
            _warn(f"part of this run will not be in MLflow: {self.journal.path}: {error.strerror or error}")


def kept(path: Path) -> str:
    """What is said of a journal that could not be delivered."""
    return f"MLflow lacks part of this run; it is kept in {path}, and `minivlm sync` or the next stage sends it"


def start(journal: Path, home: Path, experiment: str) -> subprocess.Popen[bytes]:
    """The process, with a pipe for its stdin; it runs the code that this process runs."""
    source = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    command = f"from {__name__} import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", command, str(journal.resolve()), str(home.resolve()), experiment],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)
    return process


def deliver(path: Path, home: Path, experiment: str, pipe: int) -> bool:
    """Send the journal at `path` as it grows, until `pipe` ends; True when MLflow has everything.

    What earlier stages have left is tried once, before it. A run that the journal does not end, because its stage
    was killed, ends as KILLED.
    """
    from minivlm.tracking.backlog import deliver_left
    from minivlm.tracking.delivery import Delivery, one_line
    from minivlm.tracking.store import tracking_uri

    journal = Journal.follow(path)
    if journal is None:  # the stage was killed at once, and somebody else has found what it left
        return True
    try:
        if said := deliver_left(path.parent, home, experiment).news():
            print(said, file=sys.stderr)
    except Exception as error:  # whatever is wrong with them, this stage's own journal is sent
        _warn(f"what earlier stages have left for MLflow could not be sent: {one_line(error)}")
    reader, runs = JournalReader(path), OpenRuns()
    delivery = Delivery(journal, home, experiment, tracking_uri(home))
    is_over, has_warned = False, False
    while not is_over:
        ready, _, _ = select.select([pipe], [], [], delivery.retry_seconds)
        is_over = bool(ready) and not os.read(pipe, 1 << 16)
        for operation in reader.read():
            delivery.take(operation)
            runs.see(operation)
        if not is_over and not delivery.flush() and not has_warned:
            has_warned = True
            _warn(f"MLflow: {delivery.failure}; going on, everything is kept in {path}")
    for operation in journal.end_runs(runs, time.time_ns() // 1_000_000):
        delivery.take(operation)
    if is_done := delivery.flush(now=True):
        journal.discard()
    else:
        if not has_warned:
            _warn(f"MLflow: {delivery.failure}")
        _warn(kept(path))
    reader.close()
    journal.close()
    return is_done


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def _let_go(*_: Any) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def main() -> None:
    """What the process runs: arguments JOURNAL HOME EXPERIMENT, the pipe as stdin."""
    signal.signal(_LET_GO, _let_go)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the stage; its end is this process's
    journal, home, experiment = sys.argv[1:]
    deliver(Path(journal), Path(home), experiment, sys.stdin.fileno())
