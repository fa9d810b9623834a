"""A command in a process of its own: seconds, and the most memory that it and its children had at once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_EVERY = 0.1  # seconds between two looks at the memory


@dataclass(frozen=True)
class Finished:
    """What a command took and said. `peak_memory`: bytes of the process tree, pages of mapped files included."""

    seconds: float
    peak_memory: int
    output: str


def measured(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Finished:
    """Run a command in `folder`, with this interpreter's commands first on the path.

    Memory is looked at ten times a second; on Linux a page that processes share counts once (proportional set
    size). RuntimeError with the last lines when the command fails.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with tempfile.TemporaryFile("w+") as output:
        start = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PATH": path, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        peak = 0
        try:
            while process.poll() is None:
                peak = max(peak, tree_memory(process.pid))
                time.sleep(_EVERY)
        finally:
            process.kill()
        seconds = time.monotonic() - start
        output.seek(0)
        said = output.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed in {folder}:\n{said[-3000:]}")
    return Finished(seconds, peak, said)


def tree_memory(pid: int) -> int:
    """Bytes of a process and all its descendants; those that end meanwhile count as nothing."""
    import psutil

    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            try:
                total += _memory(process.pid) or process.memory_info().rss
            except psutil.Error:
                continue
    except psutil.Error:
        pass
    return total


def _memory(pid: int) -> int:
    """The proportional set size; 0 where the system does not tell."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0
