"""The write-ahead file of a run: every operation is in it before MLflow hears of it.

One JSON object a line, appended and never changed. The first line is the header, then come operations and what
became of them, so that a later replay knows what is missing:

    {"format": 1, "stage": "sft", "pid": 4711, "created": 1767225600.0, "experiment": "minivlm", "server": ""}
    {"seq": 1, "op": "run", "run": "5e…", "name": "sft", "parent": "91…", "start": 1767225600000, "tags": {…}}
    {"seq": 2, "op": "params", "run": "5e…", "params": {"sft.learning_rate": "0.0015"}}
    {"seq": 3, "op": "metrics", "run": "5e…", "metrics": [["loss", 4.2, 1767225601000, 10]]}
    {"seq": 4, "op": "artifact", "run": "5e…", "file": "…/0001/loss.png", "folder": "plots"}
    {"seq": 5, "op": "inputs", "run": "5e…", "datasets": [{"name": "sft.parquet", "digest": "9f…", …}]}
    {"seq": 6, "op": "reused", "run": "91…", "stages": {"pretrain": "sha256:…"}, "before": 1767225600000, …}
    {"delivered": 2}                               operations up to 2 are in MLflow
    {"seq": 3, "rejected": "…"}                    MLflow will never take this one, and why
    {"seq": 9, "op": "end", "run": "5e…", "status": "FINISHED", "end": 1767225700000}
    {"seq": 10, "op": "model", "run": "5e…", "name": "minivlm", "model": "…/0002/model", "digest": "c4…", …}

`run` is this project's own id of a run, kept in MLflow as the tag `minivlm.run`: it exists before any server has
answered. Times are milliseconds. Sending an operation twice changes nothing (a metric keeps its time stamp, a
parameter its value, a run is looked up by its tag), so a replay may start at the last `delivered` line.
Pictures, tables and copies of artifacts lie in the folder of the same name. A line that a crash has cut off is
skipped: what was to be in it was never said.

Whoever writes to a journal holds its lock, shared: the stage, and the courier beside it. The kernel takes it from
the dead, so a journal whose lock can be had alone is one that was left.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any, Self

FORMAT = 1
JOURNAL_TAG = "minivlm.journal"  # in MLflow: when the journal was begun that took a run up last
_TYPES: dict[str, Any] = {
    **dict.fromkeys(("op", "run", "stage", "experiment", "server"), str),
    **dict.fromkeys(("seq", "delivered"), int),
    **dict.fromkeys(("pid", "created"), int | float),
}

Operation = dict[str, Any]


class LostFileError(Exception):
    """A file that an operation names is gone or damaged."""


class Journal:
    """An append-only file `<folder>/<time>-<stage>-<pid>.jsonl`, locked, and the folder of files beside it.

    Two processes write to it, whole lines each: the stage its operations, its courier what became of them.
    """

    def __init__(self, path: Path, stream: int) -> None:
        """`stream` is open to be read and appended to, and holds the lock."""
        self.path, self.files = path, path.with_suffix("")
        self._seq = self._files = 0
        self._stream = stream
        self._is_torn = False
        self._turn = threading.Lock()  # of a stage's threads

    @classmethod
    def create(cls, folder: Path, stage: str, experiment: str = "", server: str = "") -> Self:
        """A new journal of a stage's run, which is to go to `experiment` on `server` ("": the local store)."""
        folder.mkdir(parents=True, exist_ok=True)
        created = time.time()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(created))
        path = folder / f"{stamp}-{stage}-{os.getpid()}-{time.monotonic_ns() % 1_000_000:06d}.jsonl"
        aside = path.with_suffix(".new")  # nobody else sees it before it is locked and has its header
        journal = cls(path, os.open(aside, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644))
        fcntl.flock(journal._stream, fcntl.LOCK_SH)
        header = {"stage": stage, "pid": os.getpid(), "created": created, "experiment": experiment}
        journal._write({"format": FORMAT, **header, "server": server})
        aside.rename(path)
        return journal

    @classmethod
    def follow(cls, path: Path) -> Self | None:
        """The journal of a stage for its courier; None when it is gone, or another process delivers it."""
        return cls._open(path, fcntl.LOCK_SH)

    @classmethod
    def seize(cls, path: Path) -> Self | None:
        """A journal that was left; None when it is gone, or a process that writes to it lives."""
        return cls._open(path, fcntl.LOCK_EX)

    @classmethod
    def _open(cls, path: Path, lock: int) -> Self | None:
        try:
            stream = os.open(path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(stream, lock | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(stream)
            return None
        if not os.fstat(stream).st_nlink:  # removed before the lock was ours
            os.close(stream)
            return None
        return cls(path, stream)

    def append(self, operation: Operation) -> int:
        """Write an operation down; its sequence number."""
        with self._turn:
            self._seq += 1
            self._write({"seq": self._seq, **operation})
            return self._seq

    def delivered(self, seq: int) -> None:
        """Note that everything up to `seq` is in MLflow."""
        self._write({"delivered": seq})

    def rejected(self, seq: int, reason: str) -> None:
        """Note that MLflow refuses operation `seq` for good."""
        self._write({"seq": seq, "rejected": reason})

    def header(self) -> dict[str, Any]:
        """The first line; see `read_header`."""
        return read_header(self.path)

    def end_runs(self, runs: OpenRuns, end: int) -> list[Operation]:
        """Write down for a stage that is gone that the `runs` which it left ended as KILLED, at `end` ms."""
        size = os.fstat(self._stream).st_size
        self._is_torn = size > 0 and os.pread(self._stream, 1, size - 1) != b"\n"
        self._seq = runs.last
        ends = [{"op": "end", "run": run, "status": "KILLED", "end": end} for run in runs.open]
        return [{"seq": self.append(operation), **operation} for operation in ends]

    def keep(self, source: Any, *, link: bool = False) -> Path:
        """A copy of a file, a directory or a PIL image beside the journal: the stage's next run replaces it.

        `link`: a directory's files get second names where they can, which takes no room. For what is replaced and
        never written into; what is sent has to be held against a digest.
        """
        if not isinstance(source, Path):
            copy = self.new_folder() / "picture.png"
            source.save(copy)
            return copy
        copy = self.new_folder() / source.name
        if source.is_dir():
            how = link_or_copy if link else shutil.copy2
            shutil.copytree(source, copy, copy_function=how)
        else:
            shutil.copy2(source, copy)
        return copy

    def new_folder(self) -> Path:
        """A new directory in the journal's own folder."""
        self._files += 1
        folder = self.files / f"{self._files:04d}"
        folder.mkdir(parents=True)
        return folder

    def close(self) -> None:
        """Close the file, and give the lock back."""
        os.close(self._stream)

    def discard(self) -> None:
        """Remove the journal and its files, when MLflow has everything that it holds."""
        shutil.rmtree(self.files, ignore_errors=True)
        self.path.unlink(missing_ok=True)

    def _write(self, record: dict[str, Any]) -> None:
        # Given to the kernel and not to the disk: a killed process loses nothing, and a line costs microseconds.
        # A file's name that is no UTF-8 comes as half a surrogate pair, which no text can hold.
        line = ("\n" * self._is_torn + json.dumps(record, ensure_ascii=False) + "\n").encode(errors="replace")
        self._is_torn = True
        while line:
            line = line[os.write(self._stream, line) :]
        self._is_torn = False


class JournalReader:
    """Reads a journal while it is being written."""

    def __init__(self, path: Path) -> None:
        self._stream, self._rest = path.open("rb"), b""
        self.delivered = 0  # the last operation that is in MLflow, of the lines read so far

    def read(self) -> list[Operation]:
        """The operations written since the last call; a line that is not whole yet waits for the next."""
        *lines, self._rest = (self._rest + self._stream.read()).split(b"\n")
        operations = []
        for record in map(_record, lines):
            if "op" in record:
                operations.append(record)
            self.delivered = record.get("delivered", self.delivered)
        return operations

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def link_or_copy(source: str, target: str) -> str:
    """Give a file a second name; copy it where the file system has none, or another one begins."""
    try:
        os.link(source, target)
        return target
    except OSError:
        return shutil.copy2(source, target)


def read_header(path: Path) -> dict[str, Any]:
    """The first line of a journal; {} when there is none that can be read."""
    try:
        with path.open("rb") as stream:
            return _record(stream.readline())
    except FileNotFoundError:
        return {}


def _record(line: bytes) -> dict[str, Any]:
    """The object of a line; none of one that a crash has cut off or a disk has damaged."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(record, dict):
        return {}
    sound = all(isinstance(record[name], kind) for name, kind in _TYPES.items() if name in record)
    return record if sound and ("op" not in record or {"seq", "run"} <= record.keys()) else {}


class OpenRuns:
    """The runs that a journal's operations have begun and not ended, in order, and the last of the operations."""

    def __init__(self) -> None:
        self.open = dict[str, None]()
        self.last = 0

    def see(self, operation: Operation) -> None:
        """The next operation."""
        self.last = operation["seq"]
        if operation["op"] == "end":
            self.open.pop(operation["run"], None)
        elif operation["op"] != "model":  # told of a run that has ended
            self.open[operation["run"]] = None
