"""The page of the runs: which port, which store, on loopback alone."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from minivlm import paths
from minivlm.cli import main, ui
from minivlm.cli.ui import app, server_command
from minivlm.paths import Paths
from minivlm.tracking.page import LocalPage, has_model, model_address

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", ["ui", "demo"])
@pytest.mark.parametrize("port", [-5, 0, 70000])
def test_a_number_that_is_no_port_is_refused(name, port):
    result = CliRunner().invoke(main.app, [name, "--port", str(port)])
    assert result.exit_code == 2 and "--port': Input should be" in result.stderr


def test_the_server_listens_on_loopback():
    command = server_command("sqlite:////x/mlflow.db", "file:///x/artifacts", 5001)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--backend-store-uri") + 1] == "sqlite:////x/mlflow.db"


def test_a_server_has_its_own_page(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:secret@runs.example.org")
    result = CliRunner().invoke(app)
    assert result.exit_code == 0
    assert "https://runs.example.org" in result.output
    assert "secret" not in result.output


@pytest.fixture
def served(monkeypatch, tmp_path):
    """What `minivlm ui` says in a checkout of its own, and the server's command."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(paths, "Paths", lambda: Paths(tmp_path))
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    taken = []
    monkeypatch.setattr(ui, "run_server", lambda command, environment: taken.append(command) or 0)

    def run():
        result = CliRunner().invoke(ui.app)
        return result, tmp_path, taken

    return run


def test_the_registry_is_named_where_there_is_one(tmp_path):
    database = tmp_path / "mlflow.db"
    assert not has_model(database, "minivlm"), "no database"
    with closing(sqlite3.connect(database)) as connection:
        assert not has_model(database, "minivlm"), "no tables"
        connection.execute("CREATE TABLE registered_models (name TEXT)")
        connection.execute("INSERT INTO registered_models VALUES ('my photos/1')")
        connection.commit()
    assert has_model(database, "my photos/1") and not has_model(database, "minivlm")
    shown = model_address("http://127.0.0.1:5000/", "my photos/1")
    assert shown == "http://127.0.0.1:5000/#/models/my%20photos%2F1?workflowType=machine_learning"


SERVER = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"])
sys.exit(child.wait())
"""


@pytest.mark.parametrize(
    ("signals", "pause"),  # s; a second one may come at once, or while the command itself is ending
    [([signal.SIGINT], 0), ([signal.SIGINT] * 2, 0), ([signal.SIGINT] * 40, 0.005), ([signal.SIGTERM], 0)],
)
def test_ctrl_c_ends_the_server_and_what_it_started_without_a_word(signals, pause):
    called = f"run_server([{sys.executable!r}, '-c', {SERVER!r}], {{}})"
    program = f"import sys; from minivlm.cli.ui import run_server; sys.exit({called})"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "up\n"
    for number in signals:  # to all of the terminal's processes, as Ctrl-C goes
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
            time.sleep(pause)
    assert process.communicate(timeout=30)[0] == ""  # ends with the last of them
    assert process.returncode == 0


def test_a_server_that_ends_by_itself_ends_the_command_with_its_code():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    try:
        assert ui.run_server([sys.executable, "-c", "raise SystemExit(7)"], {}) == 7
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


@pytest.mark.slow
def test_the_address_of_the_models_versions_is_said(served):
    result, root, _ = served()
    assert "versions of the model" not in result.output
    with closing(sqlite3.connect(root / "mlruns" / "mlflow.db")) as connection:
        connection.execute("INSERT INTO registered_models (name) VALUES ('minivlm')")
        connection.commit()
    result, _, _ = served()
    assert "/#/models/minivlm?workflowType=machine_learning" in result.output.splitlines()[1]


@pytest.mark.slow
def test_without_any_run_the_page_is_ready_and_says_how_to_make_one(served):
    result, root, taken = served()
    assert result.exit_code == 0 and "no run is there yet: `dvc repro`" in result.output
    assert "/#/experiments/1/runs?viewStateShareKey=reproductions&" in result.output
    assert f"sqlite:///{root}/mlruns/mlflow.db" in taken[0]
    page = LocalPage.read(root / "mlruns" / "mlflow.db", "minivlm")
    assert page == LocalPage("1", runs=0, is_fresh=True)
    assert sorted(file.name for file in (root / "mlruns").iterdir()) == [".lock", "mlflow.db"]  # none half made


def test_a_store_that_cannot_be_used_is_one_line(served):
    _, root, taken = served()
    taken.clear()
    (root / "mlruns" / "mlflow.db").write_bytes(b"no database" * 100)
    result, _, _ = served()
    assert result.exit_code == 2 and not taken
    assert result.output.startswith("error: sqlite:///") and result.output.count("\n") == 1
