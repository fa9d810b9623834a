"""All benchmarks with one command."""

import subprocess
from types import SimpleNamespace

import pytest

import benchmarks.__main__ as driver
from benchmarks import generation, step, tables


@pytest.fixture
def started(monkeypatch):
    """The commands that would run; `rows` fails."""
    commands = []

    def run(command, cwd):
        commands.append(command[2:])
        return SimpleNamespace(returncode=int(command[2] == "benchmarks.rows"))

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_one_that_fails_stops_no_other(started, capsys):
    with pytest.raises(SystemExit) as ended:
        driver.main(["--quick"])
    assert ended.value.code == 1
    assert [command[0] for command in started] == [f"benchmarks.{name}" for name in driver.NAMES]
    assert all(command[1:] == ["--quick"] for command in started)
    assert capsys.readouterr().err == "error: failed: rows\n"


def test_those_named_run_alone(started):
    driver.main(["step", "generation"])
    assert started == [["benchmarks.step"], ["benchmarks.generation"]]


def test_an_unknown_name_is_refused(started, capsys):
    with pytest.raises(SystemExit):
        driver.main(["steps"])
    assert "steps is none of step, features" in capsys.readouterr().err and not started


@pytest.mark.parametrize("command", [driver.main, step.main, generation.main, tables.main])
def test_help_says_what_is_measured(command, capsys):
    with pytest.raises(SystemExit) as ended:
        command(["--help"])
    assert ended.value.code == 0 and "python -m benchmarks" in capsys.readouterr().out
