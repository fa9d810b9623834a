"""A process beside each stage that brings its journal to MLflow.

MLflow costs two seconds to import and as long as its server likes to answer; the stage writes its journal and goes
on. The courier reads on whenever it is poked through a pipe. Where the pipe ends, the stage has: it sends the rest
and removes the journal, or says where it is kept.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from minivlm.tracking.delivery import Delivery, Operation
from minivlm.tracking.journal import Journal, JournalReader

PATIENCE = 120.0
"""Seconds that a stage waits at its end until MLflow has everything."""


class Courier:
    """The stage's side: writes the journal, and wakes the process that delivers it."""

    def __init__(self, journal: Journal, home: Path, experiment: str) -> None:
        self.journal = journal
        self._process = start(journal.path, home, experiment)

    def submit(self, operation: Operation) -> None:
        """Write an operation down; `flush` has it sent. Files that it names must stay as they are until then."""
        self.journal.append(operation)

    def flush(self) -> None:
        """Have what is written sent, soon; does not wait for it."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # the pipe is full of pokes, or the process has ended: close says so
            os.write(self._process.stdin.fileno(), b".")

    def close(self) -> None:
        """Wait until MLflow has everything, or has failed."""
        self.journal.close()
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            print(f"warning: MLflow is slow; its journal is still sent: {self.journal.path}", file=sys.stderr)
            return
        if status:
            print(f"warning: MLflow lacks part of this run; it is kept in {self.journal.path}", file=sys.stderr)


def start(journal: Path, home: Path, experiment: str) -> subprocess.Popen[bytes]:
    """The process, with a pipe for its stdin; it runs the code that this process runs."""
    source = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    command = f"from {__name__} import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", command, str(journal.resolve()), str(home.resolve()), experiment],
        stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)
    return process


def deliver(path: Path, home: Path, experiment: str, pipe: int) -> bool:
    """Send the journal at `path` as it grows, until `pipe` ends; True when MLflow has everything.

    A run that the journal does not end, because its stage was killed, ends as KILLED.
    """
    journal, reader = Journal(path), JournalReader(path)
    delivery = Delivery(journal, home, experiment)
    running: dict[str, int] = {}  # run → the last operation
    ended = False
    while not ended:
        ready, _, _ = select.select([pipe], [], [], delivery.retry_seconds)
        ended = bool(ready) and not os.read(pipe, 1 << 16)
        for operation in reader.read():
            delivery.take(operation)
            if operation["op"] == "end":
                running.pop(operation["run"], None)
            else:
                running[operation["run"]] = operation["seq"]
        if not ended:
            delivery.flush()
    last = max(running.values(), default=0)
    for run in running:
        end = {"op": "end", "run": run, "status": "KILLED", "end": time.time_ns() // 1_000_000}
        delivery.take({"seq": last, **end})
    done = delivery.close()
    reader.close()
    journal.close()
    if done:
        journal.discard()
    return done


def main() -> None:
    """What the process runs: arguments JOURNAL HOME EXPERIMENT, the pipe as stdin."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # meant for the stage; its end is this process's
    journal, home, experiment = sys.argv[1:]
    deliver(Path(journal), Path(home), experiment, sys.stdin.fileno())
