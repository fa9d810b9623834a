"""A checkout for each test, with a store that has its tables already."""

import pytest

from minivlm.paths import Paths
from minivlm.tracking import courier
from minivlm.tracking.store import connect
from tests.unit.tracking.toys import ThreadInsteadOfProcess


@pytest.fixture
def paths(checkout, monkeypatch):
    """A checkout of its own, whose courier is a thread."""
    monkeypatch.setattr(courier, "start", ThreadInsteadOfProcess)
    return checkout


@pytest.fixture
def alone(checkout, monkeypatch):
    """A checkout of its own, whose stages have no courier."""
    monkeypatch.setattr(courier, "start", no_courier)
    return checkout


def no_courier(*_):
    raise OSError("no process can be had")


@pytest.fixture
def checkout(tmp_path, monkeypatch, template_store):
    """A checkout of its own, with a store that has its tables already: making them takes seconds."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    paths = Paths(tmp_path)
    paths.tracking.mkdir()
    (paths.tracking / "mlflow.db").write_bytes(template_store)
    return paths


@pytest.fixture(scope="session")
def template_store(tmp_path_factory):
    home = tmp_path_factory.mktemp("store")
    connect(home, "template")
    return (home / "mlflow.db").read_bytes()
