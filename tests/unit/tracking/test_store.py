"""Where runs go."""

from pathlib import Path

from minivlm.tracking.store import local_uri


def test_the_local_store_is_the_same_from_every_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert local_uri(Path("mlruns")) == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
