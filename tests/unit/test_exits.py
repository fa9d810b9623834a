"""How a command ends: one line, one exit code, and the traceback where it is asked for."""

import subprocess
import sys

import pytest
import typer

from minivlm.errors import StoppedError, UserError
from minivlm.exits import EXIT_NO_READER, VERBOSE, one_line_errors

NO_SPACE = "error: No space left on device; make room, and run it again"
BY_HAND = "; run with --verbose for the traceback"


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    for name in (VERBOSE, "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("sft: no rows; run tokenize"), 2, "error: sft: no rows; run tokenize"),
        (NotADirectoryError(20, "Not a directory", "artifacts/sft"), 2, "error: artifacts/sft: Not a directory"),
        (PermissionError(13, "Permission denied", b"reports"), 2, "error: reports: Permission denied"),
        (OSError(28, "No space left"), 2, NO_SPACE),
        (Exception("No space left (os error 28)"), 2, NO_SPACE),
        (
            StoppedError("sft: after step 3 of 12"),
            75,
            "stopped: sft: after step 3 of 12; its state is saved, run it again to go on",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
        (typer.Abort(), 130, "interrupted"),
        (ValueError("a bug\nof two lines"), 1, f"error: unexpected ValueError: a bug of two lines{BY_HAND}"),
        (OSError("of no file"), 1, f"error: unexpected OSError: of no file{BY_HAND}"),
        (AssertionError(), 1, f"error: unexpected AssertionError{BY_HAND}"),
        (
            BrokenPipeError(32, "of a server"),
            1,
            f"error: unexpected BrokenPipeError: [Errno 32] of a server{BY_HAND}",
        ),
        (UserError("a\tb\nc\x1b[31m.png: 夕阳\u3000"), 2, "error: a\\tb\\nc\\x1b[31m.png: 夕阳\u3000"),
    ],
)
def test_an_error_is_one_line_and_a_code(capsys, error, code, line):
    with pytest.raises(typer.Exit) as caught, one_line_errors():
        raise error
    assert caught.value.exit_code == code
    assert capsys.readouterr().err == line + "\n"


@pytest.mark.parametrize("ending", [typer.Exit(3), SystemExit(4)])
def test_what_is_meant_to_end_a_command_passes(capsys, ending):
    with pytest.raises(type(ending)), one_line_errors():
        raise ending
    assert capsys.readouterr().err == ""


def test_a_reader_that_leaves_ends_a_command_quietly_and_with_a_code():
    program = "from minivlm.command import App\nimport typer\napp = App()\n@app.command()\ndef command():\n"
    table = "from minivlm.terminal import rich_console; [rich_console().print('line') for _ in range(3)]"
    for said in ("[typer.echo('line') for _ in range(100_000)]", "print('buffered to the end')", table):
        command = [sys.executable, "-c", f"{program}    import time; time.sleep(0.3); {said}\napp()"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdout.close()
            assert (process.stderr.read(), process.wait()) == (b"", EXIT_NO_READER)


@pytest.mark.parametrize(("error", "code"), [(UserError("no rows"), 2), (ValueError("a bug"), 1)])
def test_verbose_shows_the_traceback_before_the_line(capsys, monkeypatch, error, code):
    monkeypatch.setenv(VERBOSE, "1")
    with pytest.raises(typer.Exit) as caught, one_line_errors():
        raise error
    lines = capsys.readouterr().err.splitlines()
    assert caught.value.exit_code == code
    assert lines[0] == "Traceback (most recent call last):" and lines[-1].startswith("error: ")
    assert BY_HAND not in lines[-1]


def test_a_stage_that_dvc_runs_names_what_dvc_passes_on(capsys, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "sft")
    with pytest.raises(typer.Exit), one_line_errors():
        raise ValueError
    assert capsys.readouterr().err == (f"error: unexpected ValueError; run with {VERBOSE}=1 for the traceback\n")


def test_a_traceback_that_cannot_be_kept_is_asked_for(capsys, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(typer.Exit), one_line_errors(keep=tmp_path / "file" / "sft.txt"):
        raise ValueError
    assert capsys.readouterr().err == f"error: unexpected ValueError{BY_HAND}\n"
