"""The manners that all commands share: usage errors in a line, plain help of 80 columns, --verbose anywhere."""

import re
import subprocess
import sys
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from minivlm.command import App, Verbose
from minivlm.errors import UserError
from minivlm.exits import VERBOSE

app = App(add_completion=False)


@app.callback()
def main(verbose: Verbose = False) -> None:
    """A group."""


@app.command()
def fail(
    what: Annotated[str, typer.Argument(help="Which way.")],
    number: Annotated[int, typer.Option(min=1, help="How often.")] = 1,
    names: Annotated[list[str] | None, typer.Option(help="Some names.")] = None,
    share: Annotated[float, typer.Option(help="A share.")] = 0.5,
    shown: Annotated[bool, typer.Option("--shown", help="A flag.")] = False,
) -> None:
    """Fail in a way that is long to describe, so long that the list of the commands has to break the line.

    More of it. And more.
    """
    if what == "user":
        raise UserError("no rows; run tokenize")
    if what == "bug":
        raise ZeroDivisionError("no rows")
    if what == "interrupt":
        raise KeyboardInterrupt
    if what == "code":
        raise typer.Exit(3)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv(VERBOSE, "")  # set, so that what --verbose sets is taken back
    monkeypatch.delenv("DVC_STAGE", raising=False)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), prog_name="x", env={"COLUMNS": "80"})
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["fail", "user"], 2, "error: no rows; run tokenize"),
        (["fail", "bug"], 1, "error: unexpected ZeroDivisionError: no rows; run with --verbose for the traceback"),
        (["fail", "interrupt"], 130, "interrupted"),
        (["fail", "code"], 3, ""),
        (["fail", "nothing"], 0, ""),
        (["fail"], 2, "error: Missing argument 'WHAT'; see x fail --help"),
        (["fall"], 2, "error: No such command 'fall'. Did you mean 'fail'?; see x --help"),
        (["fail", "user", "--no"], 2, "error: No such option: --no; see x fail --help"),
    ],
)
def test_every_way_to_fail_is_one_line(arguments, code, line):
    assert run(*arguments) == (code, f"{line}\n" if line else "")


def test_a_value_out_of_range_names_the_option():
    code, said = run("fail", "user", "--number", "0")
    assert code == 2 and re.fullmatch(r"error: Invalid value for '--number': .*; see x fail --help\n", said)


@pytest.mark.parametrize("arguments", [["--verbose", "fail", "user"], ["fail", "user", "--verbose"]])
def test_verbose_stands_before_or_behind_the_command(arguments):
    code, said = run(*arguments)
    assert code == 2 and said.startswith("Traceback") and said.endswith("\nerror: no rows; run tokenize\n")


def test_the_help_of_a_command_names_values_plainly():
    assert run("fail", "--help") == (
        0,
        """Usage: x fail [OPTIONS] WHAT

  Fail in a way that is long to describe, so long that the list of the commands
  has to break the line.

  More of it. And more.

Arguments:
  WHAT  Which way.  [required]

Options:
  --number N      How often.  [default: 1; x>=1]
  --names TEXT    Some names.
  --share NUMBER  A share.  [default: 0.5]
  --shown         A flag.
  --verbose       Show the traceback of an error.
  --help          Show this message and exit.
""",
    )


def test_the_list_of_commands_cuts_no_sentence():
    said = " ".join(run("--help")[1].partition("Commands:")[2].split())
    assert said == (
        "fail Fail in a way that is long to describe, so long that the list of the commands has to break the line."
    )


def test_a_second_ctrl_c_while_it_ends_is_not_told():
    program = """
import atexit, os, signal
from minivlm.command import App
app = App()
@app.command()
def command():
    raise KeyboardInterrupt
@atexit.register
def again():
    os.kill(os.getpid(), signal.SIGINT)
app()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stderr, done.returncode) == ("interrupted\n", 130)
