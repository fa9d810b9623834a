"""Several processes for one stage: `runtime.launcher` starts them, and what they say and return is one command's.

The stage command is then three kinds of process. The *starter*, which a user or DVC runs, starts the launcher
(torchrun or accelerate) and waits. The launcher starts the *ranks*: the same command once more, each with RANK,
WORLD_SIZE and more in its environment. Ranks that a person starts with torchrun have no starter.

A rank that cannot go on leaves its one line and exit code with the starter and waits to be ended: launchers would
print pages about it, and end the others their own way. Ranks live in sessions of their own, so the starter passes
signals on, and a rank whose starter is gone goes too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from minivlm.errors import UserError
from minivlm.files import read_json, write_json

if TYPE_CHECKING:
    import psutil

LAUNCHERS = {"torchrun": "torch.distributed.run", "accelerate": "accelerate.commands.accelerate_cli"}
"""First word of `runtime.launcher` → the module that it stands for, of the environment that runs the stage."""

STARTER = "MINIVLM_STARTER"
"""Environment variable: the folder in which ranks and starter meet."""

FIRST_WORD_SECONDS = 5.0
"""What stops all ranks is said by rank 0; another one speaks when it is still there after so long."""

_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")  # of a rank among all and on its machine
_MEETING = ("MASTER_ADDR", "MASTER_PORT")  # where ranks find each other

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 60.0  # after a signal, for a step, its state to be saved, and the MLflow run to end
_LOCK, _REPORT = "lock", "report.json"


def is_launched() -> bool:
    """Whether this process is one of those that a launcher started."""
    # LOCAL_RANK tells it from a machine that a cluster has numbered, which may be about to start a launcher.
    return STARTER in os.environ or {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys()


def rank() -> int:
    """Number of this process among all of the launch; 0 without one."""
    return int(os.environ["RANK"]) if is_launched() and "RANK" in os.environ else 0


def launched_as() -> tuple[int, int, int, int] | None:
    """Number of this process and of all, and the same on its machine, for what several do together; None if alone.

    UserError for one of several that was not told all of it: it would do everything alone, over the others' files.
    """
    missing = [name for name in (*_NUMBERS, *_MEETING) if not os.environ.get(name)]
    if not missing:
        rank, size, local_rank, local_size = (int(os.environ[name]) for name in _NUMBERS)
        return rank, size, local_rank, local_size
    if os.environ.get("RANK") and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError(
            f"RANK {os.environ['RANK']} of WORLD_SIZE {os.environ['WORLD_SIZE']}, and no {', '.join(missing)}: "
            "start with torchrun (docs/scale.md), which sets all of them, or unset RANK to train alone"
        )
    return None


def launch(launcher: str, module: str, threads: int) -> int:
    """Run `<launcher> -m <module>` to its end and return the exit code; the one line of an error is printed.

    `launcher`: words whose first is a key of LAUNCHERS. `threads` of each process, which torchrun would ask about.
    """
    first, *options = shlex.split(launcher)
    command = [sys.executable, "-m", LAUNCHERS[first], *options, "-m", module]
    folder = Path(tempfile.mkdtemp(prefix="minivlm-"))
    environment = {"OMP_NUM_THREADS": str(threads)} | os.environ | {STARTER: str(folder)}
    try:
        with (folder / _LOCK).open("w") as lock, _signals() as received:
            fcntl.flock(lock, fcntl.LOCK_EX)  # held until this process ends, whatever ends it
            process = subprocess.Popen(command, env=environment, start_new_session=True)
            return _wait(process, folder / _REPORT, received)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def follow_starter() -> None:
    """In a rank: end with the starter, should it be killed; without a starter, nothing."""
    if STARTER not in os.environ:
        return
    lock = (Path(os.environ[STARTER]) / _LOCK).open()

    def end_with_starter(lock: IO[str]) -> None:
        fcntl.flock(lock, fcntl.LOCK_SH)  # granted once the starter is gone
        os._exit(1)

    threading.Thread(target=end_with_starter, args=(lock,), daemon=True).start()


def end_rank(line: str, code: int) -> NoReturn:
    """In a rank: have `line` printed once for all ranks, and the stage end with `code`."""
    if rank():
        time.sleep(FIRST_WORD_SECONDS)
    if STARTER in os.environ:
        with contextlib.suppress(OSError):  # the starter is gone, and this process about to follow
            write_json(Path(os.environ[STARTER]) / _REPORT, {"line": line, "code": code})
        time.sleep(2 * _GRACE_SECONDS)
    else:
        print(line, file=sys.stderr, flush=True)
    os._exit(code)  # other threads and the process group may wait for ranks that are gone


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect the signals that ask this process to end."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, frame: received.append(number)) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _wait(process: subprocess.Popen[bytes], report: Path, received: list[int]) -> int:
    """The exit code: of a rank's report, of a signal, or the launcher's own."""
    while not (report.exists() or received):
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(_POLL_SECONDS)
            if code < 0:
                reason = signal.strsignal(-code) or f"signal {-code}"
                print(
                    f"error: the launcher was ended from outside ({reason}), and all ranks with it",
                    file=sys.stderr,
                )
            return code if code >= 0 else 128 - code
    process.send_signal(signal.SIGSTOP)  # it would tell at length what is known
    if not report.exists():
        _pass_on(process.pid, received, report)
    said: dict[str, Any] = read_json(report) if report.exists() else {"line": "", "code": 128 + received[0]}
    _kill(process)
    if said["line"]:
        print(said["line"], file=sys.stderr)
    return int(said["code"])


def _pass_on(launcher: int, received: list[int], report: Path) -> None:
    """Pass the signal on to rank 0, which has all save the state and ends what it keeps open, and wait until it
    has; a second signal ends that."""
    import psutil

    main = next((each for each in _ranks(launcher) if _is_main(each)), None)
    if main is None:  # it runs on another machine, or none runs yet
        return
    with contextlib.suppress(psutil.NoSuchProcess):  # it may end at any moment
        main.send_signal(received[0])
        end = time.monotonic() + _GRACE_SECONDS
        while len(received) == 1 and time.monotonic() < end and not report.exists():
            if not main.is_running() or main.status() == psutil.STATUS_ZOMBIE:
                return
            time.sleep(_POLL_SECONDS)


def _is_main(process: psutil.Process) -> bool:
    """Whether it is rank 0; not where it has just ended."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.environ().get("RANK", "0") == "0")
    return False


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End launcher and ranks; what the ranks started ends with them."""
    import psutil

    ranks = _ranks(process.pid)
    process.kill()
    for each in ranks:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()
    psutil.wait_procs(ranks, timeout=_GRACE_SECONDS)


def _ranks(launcher: int) -> list[psutil.Process]:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        return [each for each in psutil.Process(launcher).children() if _is_alive(each)]
    return []


def _is_alive(process: psutil.Process) -> bool:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False
