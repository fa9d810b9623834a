"""The frame of a stage: what ends in one line, and what stays a traceback."""

import os
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from minivlm import stage
from minivlm.errors import StoppedError, UserError
from minivlm.paths import Paths, project_root
from minivlm.stage import one_line_errors, stage_app


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("sft: no rows; run tokenize"), 2, "error: sft: no rows; run tokenize"),
        (NotADirectoryError(20, "Not a directory", "artifacts/sft"), 2, "error: artifacts/sft: Not a directory"),
        (PermissionError(13, "Permission denied", b"reports"), 2, "error: reports: Permission denied"),
        (OSError(28, "No space left"), 2, "error: No space left on device; make room, and run it again"),
        (
            Exception("No space left (os error 28)"),
            2,
            "error: No space left on device; make room, and run it again",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_a_user_can_mend_is_one_line(capsys, error, code, line):
    with pytest.raises(typer.Exit) as caught, one_line_errors():
        raise error
    assert caught.value.exit_code == code
    assert capsys.readouterr().err == line + "\n"


def test_a_training_that_was_stopped_has_a_code_of_its_own(capsys):
    """75, which schedulers are told of: docs/reliability.md."""
    with pytest.raises(typer.Exit) as caught, one_line_errors():
        raise StoppedError("sft: after step 3 of 12")
    assert caught.value.exit_code == 75
    line = "stopped: sft: after step 3 of 12; its state is saved, run it again to go on\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError("of no file")])
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)), one_line_errors():
        raise error


SECOND = """
import sys
from pathlib import Path
from minivlm.errors import UserError
from minivlm.paths import Paths
from minivlm.stage import _outputs
try:
    with _outputs("sft", Paths(Path(sys.argv[1]))):
        print("free")
except UserError as error:
    print(error)
"""


def test_a_stage_that_runs_here_already_is_refused_and_left_alone(tmp_path, monkeypatch):
    """Two would write the same folders; what the stage returns, which removes states, runs before it lets go."""
    monkeypatch.setattr(stage, "Paths", lambda: Paths(tmp_path))
    monkeypatch.setattr(stage, "load_params", lambda path: SimpleNamespace(runtime=SimpleNamespace(launcher="")))
    monkeypatch.setattr(stage, "_tracker", lambda *arguments: nullcontext())
    seen = []

    def other():
        command = [sys.executable, "-c", SECOND, str(tmp_path)]
        seen.append(subprocess.run(command, capture_output=True, text=True, cwd=project_root()).stdout)

    def run(of):
        other()
        return other

    assert CliRunner().invoke(stage_app("sft", "", run)).exit_code == 0
    other()
    line = (
        f"sft is being run in this checkout by process {os.getpid()}; wait for it, stop it, or use another clone\n"
    )
    assert seen == [line, line, "free\n"]


def test_what_a_killed_process_was_writing_is_removed_before_the_stage_begins(tmp_path):
    """DVC removes what is in the outputs; what lies beside them would stay, and all where it is run by hand."""
    left = [
        "artifacts/.sft.x1y2z3w4/model",
        "artifacts/sft/.model.x1y2z3w4/config.json",
        "reports/sft/.loss.csv.abcdefgh",
    ]
    stay = [
        "artifacts/.base.x1y2z3w4/a",
        "artifacts/sft/model/.gitignore",
        "reports/sft/.gitignore",
        "reports/.a.abcdefgh",
    ]
    for name in left + stay:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with stage._outputs("sft", Paths(tmp_path)):
        found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {*stay, ".state/locks/sft"}
    assert not (tmp_path / "artifacts/.sft.x1y2z3w4").exists()
