"""The write-ahead file of a run: every operation is in it before MLflow hears of it.

One JSON object a line, appended and never changed. The first line is the header, then come operations and what
became of them, so that a later replay knows what is missing:

    {"format": 1, "stage": "sft", "pid": 4711, "created": 1767225600.0}
    {"seq": 1, "op": "run", "run": "5e…", "name": "sft", "parent": "91…", "start": 1767225600000, "tags": {…}}
    {"seq": 2, "op": "params", "run": "5e…", "params": {"sft.learning_rate": "0.0015"}}
    {"seq": 3, "op": "metrics", "run": "5e…", "metrics": [["loss", 4.2, 1767225601000, 10]]}
    {"seq": 4, "op": "artifact", "run": "5e…", "file": "…/loss.png", "folder": "plots"}
    {"delivered": 2}                               operations up to 2 are in MLflow
    {"seq": 3, "rejected": "…"}                    MLflow will never take this one, and why
    {"seq": 9, "op": "end", "run": "5e…", "status": "FINISHED", "end": 1767225700000}

`run` is this project's own id of a run, kept in MLflow as the tag `minivlm.run`: it exists before any server has
answered. Times are milliseconds. Sending an operation twice changes nothing (a metric keeps its time stamp, a
parameter its value, a run is looked up by its tag), so a replay may start at the last `delivered` line.
Pictures and tables lie in the folder of the same name; so do copies of artifacts that could not be sent.
"""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, Self

FORMAT = 1


class Journal:
    """An append-only file `<folder>/<time>-<stage>-<pid>.jsonl` and the folder of files beside it.

    Two processes write to it, whole lines each: the stage its operations, its courier what became of them.
    """

    def __init__(self, path: Path) -> None:
        """Open a journal to append to it; what it holds is not read."""
        self.path, self.files = path, path.with_suffix("")
        self._seq = self._files = 0
        self._stream = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    @classmethod
    def create(cls, folder: Path, stage: str) -> Self:
        """A new journal of a stage's run."""
        folder.mkdir(parents=True, exist_ok=True)
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        journal = cls(folder / f"{stamp}-{stage}-{os.getpid()}-{time.monotonic_ns() % 1_000_000:06d}.jsonl")
        journal._write({"format": FORMAT, "stage": stage, "pid": os.getpid(), "created": time.time()})
        return journal

    def append(self, operation: dict[str, Any]) -> int:
        """Write an operation down; its sequence number."""
        self._seq += 1
        self._write({"seq": self._seq, **operation})
        return self._seq

    def delivered(self, seq: int) -> None:
        """Note that everything up to `seq` is in MLflow."""
        self._write({"delivered": seq})

    def rejected(self, seq: int, reason: str) -> None:
        """Note that MLflow refuses operation `seq` for good."""
        self._write({"seq": seq, "rejected": reason})

    def new_file(self, name: str) -> Path:
        """A free path in the journal's own folder."""
        self.files.mkdir(exist_ok=True)
        self._files += 1
        return self.files / f"{self._files:04d}-{Path(name).name}"

    def keep_copy(self, seq: int, operation: dict[str, Any]) -> None:
        """Copy the file of an artifact that could not be sent: the next run of the stage replaces the original."""
        source = Path(operation["file"])
        if self.files in source.parents or not source.exists():
            return
        copy = self.files / f"{seq:04d}" / source.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy)
        else:
            shutil.copy2(source, copy)
        operation["file"] = str(copy)
        self._write({"seq": seq, "copied": str(copy)})

    def close(self) -> None:
        """Close the file."""
        os.close(self._stream)

    def discard(self) -> None:
        """Remove the journal and its files, when MLflow has everything that it holds."""
        self.path.unlink(missing_ok=True)
        shutil.rmtree(self.files, ignore_errors=True)

    def _write(self, record: dict[str, Any]) -> None:
        # Given to the kernel and not to the disk: a killed process loses nothing, and a line costs microseconds.
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
        while line:
            line = line[os.write(self._stream, line) :]


class JournalReader:
    """Reads the operations of a journal while it is being written."""

    def __init__(self, path: Path) -> None:
        self._stream, self._rest = path.open("rb"), b""

    def read(self) -> list[dict[str, Any]]:
        """The operations written since the last call; a line that is not whole yet waits for the next."""
        *lines, self._rest = (self._rest + self._stream.read()).split(b"\n")
        records = (json.loads(line) for line in lines)
        return [record for record in records if "op" in record]

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
