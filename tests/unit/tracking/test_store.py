"""Where runs go."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from minivlm.tracking.store import connect, local_uri


def test_the_local_store_is_the_same_from_every_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert local_uri(Path("mlruns")) == f"sqlite:///{tmp_path}/mlruns/mlflow.db"


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_makes_the_tables_leaves_no_half_of_a_store(tmp_path):
    code = (
        "import sys, pathlib; from minivlm.tracking.store import connect; connect(pathlib.Path(sys.argv[1]), 'a')"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "mlruns")]) as process:
        while not any(file.stat().st_size > 100_000 for file in (tmp_path / "mlruns").glob("*mlflow.db*[0-9b]")):
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()
    client, experiment = connect(tmp_path / "mlruns", "a")
    assert client.get_experiment(experiment).name == "a"
    assert sorted(file.name for file in (tmp_path / "mlruns").iterdir()) == [".lock", "mlflow.db"]
