"""From `git clone` to two runs in MLflow's page, by the README's commands alone: how long each takes.

    python -m benchmarks.newcomer

Everything is made anew in a temporary folder, and installed without pip's cache. The last step is done as the page
itself does it: it asks `minivlm ui` for both runs and for the points of their loss curves. What a person reads,
types and clicks meanwhile is not counted; downloads depend on the network.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.record import ROOT, commit, destination, record, run, table
from minivlm.errors import UserError

COMMANDS = (
    "make install",
    "make repro",
    'git commit --all --allow-empty --message "My run"',
    "dvc exp run -S sft.learning_rate=2e-3",
    "minivlm experiments",
    "minivlm ui",
)
"""Of the README, in its order; `make repro` installs by itself, and the installation is timed apart."""
_CURVE = "sft.loss"
_PATIENCE = 120  # seconds until the page has an address, and until it answers
_GRACE = 10  # seconds that a command has to end in once it is asked to
_AUTHOR = {f"GIT_{who}_{what}": "newcomer" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def follow(clone: Path) -> list[dict[str, Any]]:
    """Every command with its seconds, from making `clone` to the page; UserError where one fails."""
    cloning = shlex.join(["git", "clone", "--quiet", str(ROOT), str(clone)])
    lines = [_timed("git clone", lambda: _done(cloning, clone.parent))]
    for command in COMMANDS[:-1]:
        lines.append(_timed(command, lambda line=command: _done(line, clone)))
    lines.append(_timed(COMMANDS[-1], lambda: compared(clone)))
    return lines


def compared(clone: Path) -> None:
    """Start the page, and read from it what it draws of two reproductions: their parameters and curves."""
    log = clone.parent / "page.log"
    with log.open("wb") as said:
        process = _start(COMMANDS[-1], clone, stdout=said, stderr=subprocess.STDOUT)
    try:
        server, experiment = _address(process, log)
        _answers(f"{server}/health")
        runs = reproductions(server, experiment)
        if len(runs) != 2 or len({_value(each, "params", "sft.learning_rate") for each in runs}) != 2:
            raise UserError(f"{clone}: the page has {len(runs)} reproductions, and not two that differ")
        for each in runs:
            if len(curve(server, each["info"]["run_id"])) < 2:
                raise UserError(f"{clone}: run {each['info']['run_name']} has no curve {_CURVE}")
    finally:
        _end(process)


def installed(clone: Path) -> dict[str, str | None]:
    """The versions in the environment that was made in a clone, as its own Python tells them."""
    code = "import json; from benchmarks.record import versions; print(json.dumps(versions()))"
    found: dict[str, str | None] = json.loads(_done(shlex.join(["python", "-c", code]), clone))
    return found


def disk_bytes(folder: Path) -> int:
    """What a folder takes of the disk."""
    return sum(path.lstat().st_blocks for path in folder.rglob("*")) * 512


def reproductions(server: str, experiment: str) -> list[dict[str, Any]]:
    """The runs of an experiment that no other run holds, as MLflow's REST interface gives them."""
    body = json.dumps({"experiment_ids": [experiment], "max_results": 1000}).encode()
    asked = urllib.request.Request(
        f"{server}/ajax-api/2.0/mlflow/runs/search", body, {"Content-Type": "application/json"}
    )
    runs: list[dict[str, Any]] = _json(asked).get("runs", [])
    return [each for each in runs if _value(each, "tags", "mlflow.parentRunId") is None]


def curve(server: str, run_id: str) -> list[dict[str, Any]]:
    """The points of a run's loss curve."""
    query = f"run_id={run_id}&metric_key={_CURVE}"
    found: list[dict[str, Any]] = _json(f"{server}/ajax-api/2.0/mlflow/metrics/get-history?{query}")["metrics"]
    return found


def environment(clone: Path) -> dict[str, str]:
    """The shell's, as after `. .venv/bin/activate`; pip keeps and takes nothing from its cache."""
    foreign = ("MLFLOW_", "DVC_", "PYTHON", "PIP_", "GIT_", "OMP_", "GOMP_", "VIRTUAL_ENV")
    own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    own["PATH"] = f"{clone / '.venv' / 'bin'}{os.pathsep}{own['PATH']}"
    return own | _AUTHOR | {"PIP_NO_CACHE_DIR": "1"}


def _value(found: dict[str, Any], kind: str, key: str) -> str | None:
    """Of a run, what it has among its `params` or `tags` by that key."""
    return next((each["value"] for each in found["data"].get(kind, ()) if each["key"] == key), None)


def _json(asked: Any) -> Any:
    with urllib.request.urlopen(asked, timeout=_PATIENCE) as answer:
        return json.load(answer)


def _address(process: subprocess.Popen[str], log: Path) -> tuple[str, str]:
    """The page's server and experiment, of what `minivlm ui` writes; UserError with that where it names none."""
    end = time.monotonic() + _PATIENCE
    while True:
        last = process.poll() is not None or time.monotonic() > end  # asked first: what is read then is all
        said = log.read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"(http://127\.0\.0\.1:\d+)/#/experiments/(\d+)/", said):
            return found[1], found[2]
        if last:
            raise UserError(f"{COMMANDS[-1]}: said no address, but {said[-3000:]!r}")
        time.sleep(0.05)


def _answers(address: str) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise UserError(f"{address}: no answer in {_PATIENCE} s") from None
            time.sleep(0.2)


def _done(line: str, folder: Path) -> str:
    """Run a line of the README; what it printed, UserError with the end of what it said when it fails."""
    process = _start(line, folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        printed, complained = process.communicate()
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        raise UserError(f"{line}: exit code {process.returncode}\n{(printed + complained)[-3000:]}")
    return printed


def _start(line: str, folder: Path, **streams: Any) -> subprocess.Popen[str]:
    """A line in a shell, with all that it starts in a process group of its own."""
    return subprocess.Popen(
        ["bash", "-c", line], cwd=folder, env=environment(folder), text=True, start_new_session=True, **streams
    )


def _end(process: subprocess.Popen[str]) -> None:
    """End a line and all that it started: asked, and killed where it has not ended in time."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_GRACE)


def _exit_on_signals() -> None:
    """Have SIGTERM and SIGHUP end this as Ctrl-C does: nothing goes on running, and the temporary folder goes."""

    def leave(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGHUP):  # a second one would break off what the first began
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, leave)


def _timed(command: str, action: Any) -> dict[str, Any]:
    print(f"{command} …", file=sys.stderr, flush=True)
    start = time.monotonic()
    action()
    return {"command": command, "seconds": time.monotonic() - start}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.newcomer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--directory", type=Path, help="where newcomer.json goes: benchmarks/results by default")
    given = parser.parse_args(arguments)
    results = destination(given.directory, quick=False)
    _exit_on_signals()
    cloned = commit()  # in the clone the commands make another
    with tempfile.TemporaryDirectory(prefix="minivlm-newcomer-") as folder:
        clone = Path(folder) / "minivlm"
        lines = follow(clone)
        there = installed(clone) | {"minivlm": cloned}
        size = disk_bytes(clone / ".venv")
    total = sum(line["seconds"] for line in lines)
    table([*lines, {"command": "all", "seconds": total}], "A newcomer's commands")
    figures = {"commands": lines, "seconds": total, "environment_bytes": size}
    print(record("newcomer", figures, installed=there, directory=results))


if __name__ == "__main__":
    run(main)
