"""The page of the runs: which port, which store, on loopback alone."""

import socket

import pytest
from typer.testing import CliRunner

from minivlm.cli.ui import HOST, app, free_port, server_command
from minivlm.errors import UserError


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
    assert "runs.example.org" in result.output
    assert "secret" not in result.output
