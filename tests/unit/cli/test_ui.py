"""The page of the runs: which port, which store, on loopback alone."""

import socket
import sqlite3
from contextlib import closing

import pytest
from typer.testing import CliRunner

from minivlm.cli.ui import HOST, app, free_port, server_command
from minivlm.errors import UserError
from minivlm.tracking.page import address, experiment_tags


def test_a_port_in_use_is_passed_over():
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) > port
        with pytest.raises(UserError, match="--port"):
            free_port(port, attempts=1)


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


def test_the_address_leads_to_the_view_of_the_experiment(tmp_path):
    database = tmp_path / "mlflow.db"
    assert address("http://here", database, "minivlm") == "http://here"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE experiments (experiment_id, name, lifecycle_stage)")
        connection.execute("INSERT INTO experiments VALUES (7, 'minivlm', 'active')")
        connection.commit()
    assert address("http://here", database, "other") == "http://here"
    (view,) = [key for key in experiment_tags() if "sharedViewState" in key]
    shared = address("http://here", database, "minivlm")
    assert shared.startswith("http://here/#/experiments/7/runs?")
    assert f"viewStateShareKey={view.rpartition('.')[2]}&" in shared
