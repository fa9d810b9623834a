"""The frame of a stage: its folders are its own, and what a killed process has left is removed."""

import os
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from minivlm import stage
from minivlm.paths import Paths, project_root
from minivlm.stage import stage_app

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


def test_the_traceback_of_a_bug_is_kept_beside_the_states(tmp_path, monkeypatch):
    """A run of many hours is not repeated to see it."""
    monkeypatch.delenv("MINIVLM_VERBOSE", raising=False)
    monkeypatch.setattr(stage, "Paths", lambda: Paths(tmp_path))
    monkeypatch.setattr(stage, "load_params", lambda path: SimpleNamespace(runtime=SimpleNamespace(launcher="")))
    monkeypatch.setattr(stage, "_tracker", lambda *arguments: nullcontext())

    def run(of):
        raise ZeroDivisionError("of no rows")

    ended = CliRunner().invoke(stage_app("sft", "", run))
    kept = tmp_path / ".state/tracebacks/sft.txt"
    assert (ended.exit_code, ended.stderr) == (
        1,
        f"error: unexpected ZeroDivisionError: of no rows; traceback: {kept}\n",
    )
    assert kept.read_text().startswith("Traceback") and "in run\n" in kept.read_text()


@pytest.mark.parametrize(("trains", "turns"), [(True, "1000"), (False, None)])
def test_the_threads_of_a_training_leave_their_cores_soon(tmp_path, monkeypatch, trains, turns):
    monkeypatch.setattr(stage, "Paths", lambda: Paths(tmp_path))
    monkeypatch.setattr(stage, "load_params", lambda path: SimpleNamespace(runtime=SimpleNamespace(launcher="")))
    monkeypatch.setattr(stage, "_tracker", lambda *arguments: nullcontext())
    monkeypatch.setenv("GOMP_SPINCOUNT", "")  # set, so that what the stage sets is taken back
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    seen = []
    app = stage_app("sft", "", lambda of: seen.append(os.environ.get("GOMP_SPINCOUNT")), resumes=trains)
    assert CliRunner().invoke(app).exit_code == 0
    assert seen == [turns]
