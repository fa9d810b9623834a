"""`minivlm sync`: one line, and an exit code that says whether something still waits."""

import pytest
from typer.testing import CliRunner

from minivlm.cli.main import app
from minivlm.paths import Paths
from minivlm.tracking import courier
from tests.unit.tracking.toys import LeftStage


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A user's checkout, which stages in a copy of it find by DVC_ROOT."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(courier, "start", no_courier)
    return Paths(tmp_path)


def no_courier(*_):
    raise OSError("no process can be had")


def test_without_journals_it_says_so(checkout):
    result = CliRunner().invoke(app, ["sync"])
    assert (result.exit_code, result.stdout) == (0, "no journal waits for MLflow\n")


def test_what_was_left_is_delivered(checkout):
    LeftStage(checkout).tell(1, 3).die()
    result = CliRunner().invoke(app, ["sync"])
    assert result.exit_code == 0
    assert (
        result.stdout == "delivered to MLflow what was left: 1 journal (sft), 6 metrics\n"
    )  # the curve is on both runs


@pytest.mark.parametrize(("server", "options"), [("http://127.0.0.1:9", []), ("", ["--to", "http://127.0.0.1:9"])])
def test_a_server_that_is_still_away_is_one_line_and_exit_code_1(checkout, server, options):
    path = LeftStage(checkout, server=server).tell(1, 3).die()
    result = CliRunner().invoke(app, ["sync", *options])
    assert result.exit_code == 1
    assert result.stdout.startswith("still waiting for MLflow: 1 journal (sft) in ")
    assert "http://127.0.0.1:9" in result.stdout and result.stdout.count("\n") == 1
    assert path.exists()
