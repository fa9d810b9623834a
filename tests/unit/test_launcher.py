"""The starter of several processes, with a launcher of a few lines: what it prints, returns and leaves behind."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from minivlm import launcher

# As torchrun does: ranks in sessions of their own, pages about one that fails, exit code 1 for it.
FAKE = """
import os, subprocess, sys, time

number, module = int(sys.argv[1]), sys.argv[3]
assert sys.argv[2] == "-m"
environment = lambda rank: {
    **os.environ, "RANK": str(rank), "WORLD_SIZE": str(number), "LOCAL_RANK": str(rank), "MASTER_ADDR": "here"
}
ranks = [
    subprocess.Popen([sys.executable, "-m", module], env=environment(rank), start_new_session=True)
    for rank in range(number)
]
while None in (codes := [rank.poll() for rank in ranks]) and not any(codes):
    time.sleep(0.02)
if any(codes):
    print("pages about it", file=sys.stderr)
    for rank in ranks:
        rank.terminate()
    sys.exit(1)
"""
RANK = """
import os, sys, time
from minivlm import launcher

launcher.follow_starter()
rank = launcher.rank()
open(f"started-{rank}", "w").close()
try:
    BODY
except KeyboardInterrupt:
    launcher.end_rank("interrupted", 130)
"""
START = "import sys; from minivlm import launcher; launcher.LAUNCHERS['torchrun'] = 'fake'; sys.exit("
START += "launcher.launch('torchrun 2', 'ranks', 3))"


@pytest.fixture
def start(tmp_path):
    """Start two ranks that run some code; the process of the starter, in a folder where only they work."""

    def start(body):
        (tmp_path / "fake.py").write_text(FAKE)
        (tmp_path / "ranks.py").write_text(RANK.replace("BODY", body.replace("\n", "\n    ")))
        path = os.pathsep.join([str(tmp_path), *sys.path])
        unset = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "OMP_NUM_THREADS", launcher.STARTER)
        own = {name: value for name, value in os.environ.items() if name not in unset}
        return subprocess.Popen(
            [sys.executable, "-c", START], cwd=tmp_path, env=own | {"PYTHONPATH": path, "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start


def outcome(process, folder):
    """(exit code, output, errors) of a starter that has left nothing behind."""
    output, errors = process.communicate(timeout=30)
    assert_nobody_works_in(folder)
    return process.returncode, output, errors


def assert_nobody_works_in(folder):
    end = time.monotonic() + 10
    while left := [each for each in psutil.process_iter() if works_in(each, folder)]:
        assert time.monotonic() < end, left
        time.sleep(0.05)


def works_in(process, folder):
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(folder)
    except psutil.Error:
        return False


def wait_for(*files):
    end = time.monotonic() + 20
    while not all(file.exists() for file in files):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_runs_the_command_once_for_each_rank(start, tmp_path):
    body = "print(rank, os.environ['OMP_NUM_THREADS'], launcher.is_launched())"
    code, output, errors = outcome(start(body), tmp_path)
    assert (code, errors) == (0, "") and sorted(output.splitlines()) == ["0 3 True", "1 3 True"]
    assert not list(tmp_path.glob("minivlm-*"))


def test_an_error_of_all_ranks_is_said_once(start, tmp_path):
    assert outcome(start("launcher.end_rank('error: no rows', 2)"), tmp_path) == (2, "", "error: no rows\n")


def test_an_error_of_the_second_rank_ends_the_first(start, tmp_path):
    body = "launcher.FIRST_WORD_SECONDS = 0.1\n"
    body += "time.sleep(99) if rank == 0 else launcher.end_rank('error: no rows', 2)"
    assert outcome(start(body), tmp_path) == (2, "", "error: no rows\n")


def test_a_bug_keeps_its_traceback_and_what_the_launcher_says(start, tmp_path):
    code, _, errors = outcome(start("time.sleep(99) if rank == 0 else 1 / 0"), tmp_path)
    assert code == 1 and "ZeroDivisionError" in errors and "pages about it" in errors


@pytest.mark.parametrize(
    ("number", "code", "line"), [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "")]
)
def test_a_signal_ends_all(start, tmp_path, number, code, line):
    process = start("time.sleep(99)")
    wait_for(tmp_path / "started-0", tmp_path / "started-1")
    process.send_signal(number)
    assert outcome(process, tmp_path) == (code, "", line)


def test_a_launcher_that_is_killed_is_one_line(start, tmp_path):
    process = start("time.sleep(99)")
    wait_for(tmp_path / "started-0", tmp_path / "started-1")
    [fake] = psutil.Process(process.pid).children()
    fake.kill()
    line = "error: the launcher was ended from outside (Killed), and all ranks with it\n"
    assert outcome(process, tmp_path) == (137, "", line)


def test_a_second_interrupt_does_not_wait_for_the_first_rank(start, tmp_path):
    process = start("import signal\nsignal.signal(signal.SIGINT, lambda *_: open('heard', 'w'))\ntime.sleep(99)")
    wait_for(tmp_path / "started-0", tmp_path / "started-1")
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    wait_for(tmp_path / "heard")
    process.send_signal(signal.SIGINT)
    assert outcome(process, tmp_path) == (130, "", "")


@pytest.mark.parametrize("gone_at", ["environ", "send_signal", "status"])
def test_a_rank_that_is_just_ending_is_no_error(monkeypatch, tmp_path, gone_at):
    class Rank:
        def environ(self):
            return self.answer("environ", {"RANK": "0"})

        def send_signal(self, number):
            self.answer("send_signal", None)

        def status(self):
            return self.answer("status", psutil.STATUS_RUNNING)

        def is_running(self):
            return True

        def answer(self, asked, value):
            if asked == gone_at:
                raise psutil.NoSuchProcess(1)
            return value

    monkeypatch.setattr(launcher, "_ranks", lambda pid: [Rank()])
    launcher._pass_on(1, [signal.SIGINT], tmp_path / "report.json")


def test_a_rank_that_has_ended_hides_no_other(monkeypatch):
    class Rank:
        def __init__(self, status):
            self._status = status

        def status(self):
            if self._status is None:
                raise psutil.NoSuchProcess(1)
            return self._status

    ranks = [Rank(None), Rank(psutil.STATUS_ZOMBIE), Rank(psutil.STATUS_SLEEPING)]

    class Launcher:
        def __init__(self, pid):
            pass

        def children(self):
            return ranks

    monkeypatch.setattr(psutil, "Process", Launcher)
    assert launcher._ranks(1) == ranks[2:]


def test_ranks_end_with_a_starter_that_is_killed(start, tmp_path):
    process = start("time.sleep(99)")
    wait_for(tmp_path / "started-0", tmp_path / "started-1")
    process.kill()
    process.communicate()
    assert_nobody_works_in(tmp_path)


def test_ranks_that_a_person_started_speak_for_themselves(tmp_path):
    code = "from minivlm import launcher; launcher.follow_starter(); launcher.end_rank('error: no rows', 2)"
    ranked = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "here"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | ranked, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: no rows\n")
