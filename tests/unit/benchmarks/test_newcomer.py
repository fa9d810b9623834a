"""What a newcomer's commands are, and what counts as two runs that can be compared."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch

from benchmarks import newcomer
from benchmarks.record import RESULTS, ROOT
from minivlm.errors import UserError
from minivlm.files import read_json
from tests.contract import documents

# By the number of minutes.
ENGLISH = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen",
)  # fmt: skip
CHINESE = (*"零一两三四五六七八九十", "十一", "十二", "十三", "十四", "十五")


def test_its_commands_are_the_readmes_in_their_order():
    text, places = documents.read("README.md"), []
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    places = [lines.index(command) for command in newcomer.COMMANDS if command != "make install"]
    assert places == sorted(places) and len(places) == 5


def test_a_command_that_fails_ends_it_with_what_it_said(tmp_path):
    with pytest.raises(UserError, match=r"(?s)echo no; exit 3: exit code 3\nno"):
        newcomer._done("echo no; exit 3", tmp_path)


@pytest.mark.parametrize(("page", "patience"), [("echo starting; echo $$ >pid; sleep 60", 1), ("echo no >&2", 60)])
def test_a_page_without_an_address_is_waited_for_so_long_and_told(tmp_path, monkeypatch, page, patience):
    monkeypatch.setattr(newcomer, "COMMANDS", (page,))
    monkeypatch.setattr(newcomer, "_PATIENCE", patience)
    (tmp_path / "clone").mkdir()
    start = time.monotonic()
    with pytest.raises(UserError, match=r"said no address, but '(starting|no)\\n'"):
        newcomer.compared(tmp_path / "clone")
    assert time.monotonic() - start < 30
    if (pid := tmp_path / "clone" / "pid").exists():
        assert not psutil.pid_exists(int(pid.read_text()))


@pytest.mark.parametrize("line", ["sleep 60 & echo $! >child; wait", "trap '' TERM; echo $$ >child; sleep 60"])
def test_sigterm_ends_what_was_started_and_removes_the_folder(tmp_path, line):
    code = """
import sys
from benchmarks import newcomer
newcomer._GRACE = 0.5
newcomer.follow = lambda clone: newcomer._done(sys.argv[1], clone.parent)
newcomer.main(["--directory", sys.argv[2]])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, line, str(tmp_path / "results")], env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    while not (written := [path for path in tmp_path.glob("*/child") if path.read_text()]):
        assert process.poll() is None
        time.sleep(0.02)
    child = psutil.Process(int(written[0].read_text()))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert not written[0].parent.exists()


def test_its_commands_take_nothing_from_the_shell_that_measures(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setenv("PIP_FIND_LINKS", "wheels")
    given = newcomer.environment(tmp_path)
    assert not {"MLFLOW_TRACKING_URI", "PYTHONPATH", "PIP_FIND_LINKS"} & set(given)
    assert given["PATH"].startswith(f"{tmp_path}/.venv/bin:") and given["PIP_NO_CACHE_DIR"] == "1"


def test_the_environment_that_was_made_is_asked_for_its_versions(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    monkeypatch.setattr(newcomer, "environment", lambda clone: {"PATH": f"{clone}/bin:{os.defpath}"})
    code = "import platform, sys; platform.python_version = lambda: '3.99'; exec(sys.argv[2])"
    python = f'#!/bin/sh\nPYTHONPATH={ROOT}/src exec {sys.executable} -c "{code}" "$@"\n'
    (tmp_path / "bin" / "python").write_text(python)
    (tmp_path / "bin" / "python").chmod(0o755)
    found = newcomer.installed(tmp_path)
    assert found["python"] == "3.99" and found["torch"] == torch.__version__


def test_a_folder_takes_blocks_of_the_disk_and_a_link_nothing_of_its_target(tmp_path):
    (tmp_path / "below").mkdir()
    empty = newcomer.disk_bytes(tmp_path)
    (tmp_path / "below" / "file").write_bytes(os.urandom(100_000))
    (tmp_path / "link").symlink_to("below/file")
    assert 100_000 <= newcomer.disk_bytes(tmp_path) - empty < 120_000


def test_only_runs_that_no_other_holds_are_compared(monkeypatch):
    def told(name, *tags):
        return {"info": {"run_name": name}, "data": {"tags": [{"key": key, "value": "x"} for key in tags]}}

    runs = [told("first"), told("sft", "mlflow.parentRunId"), told("second", "mlflow.user")]
    monkeypatch.setattr(newcomer, "_json", lambda asked: {"runs": runs})
    found = newcomer.reproductions("http://127.0.0.1:1", "1")
    assert [each["info"]["run_name"] for each in found] == ["first", "second"]


def test_the_documents_say_the_minutes_that_were_measured():
    measured = read_json(RESULTS / "newcomer.json")
    seconds = {line["command"]: line["seconds"] for line in measured["commands"]} | {"all": measured["seconds"]}
    repro, install, whole = (round(seconds[each] / 60) for each in ("make repro", "make install", "all"))
    said = {
        "README.md": (
            f"[{ENGLISH[repro]} minutes]",
            f"[{ENGLISH[whole]} minutes]",
            f"{ENGLISH[install]} of them installation",
        ),
        "README.zh-CN.md": (
            f"[{CHINESE[repro]}分钟]",
            f"[{CHINESE[whole]}分钟]",
            f"其中安装{CHINESE[install]}分钟",
        ),
        "docs/model-card.md": (f"{ENGLISH[repro].capitalize()} minutes of two cores",),
        "Makefile": (f"about {ENGLISH[repro]} minutes on two cores",),
    }
    assert not [(name, words) for name in said for words in said[name] if words not in documents.read(name)]
