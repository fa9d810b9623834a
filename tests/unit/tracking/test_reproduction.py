"""Which runs belong together: those of one execution of the pipeline."""

import psutil
import pytest

from minivlm.tracking.reproduction import _is_dvc, execution_key, join


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["/venv/bin/python", "/venv/bin/dvc", "repro"], True),
        (["python3", "-m", "dvc", "exp", "run"], True),
        (["dvc", "repro"], True),
        (["vim", "notes", "dvc"], False),
        (["python", "-m", "pipelines.sft"], False),
        ([], False),
    ],
)
def test_a_dvc_process_is_told_by_its_command_line(command, expected):
    assert _is_dvc(command) is expected


def test_the_key_names_the_nearest_dvc_process_and_the_experiment(monkeypatch):
    class Process:
        def __init__(self, pid, command):
            self.pid, self._command = pid, command

        def cmdline(self):
            return self._command

        def create_time(self):
            return 12.5

    ancestors = [Process(3, ["sh"]), Process(2, ["python", "-m", "dvc"]), Process(1, ["dvc", "queue"])]
    monkeypatch.setattr(psutil.Process, "parents", lambda self: ancestors)
    monkeypatch.setenv("DVC_EXP_NAME", "faster")
    assert execution_key() == "2:12.50:faster"
    ancestors[1:] = []
    assert execution_key() is None


def test_an_experiment_names_its_reproduction(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "slow-owl")
    assert join(tmp_path, "key", "0123456789").name == "slow-owl"
    again = join(tmp_path, "key", "0123456789")
    assert (again.name, again.is_new) == ("slow-owl", False)
    monkeypatch.delenv("DVC_EXP_NAME")
    assert join(tmp_path, None, "0123456789").name == "0123456 1"
    assert join(tmp_path, None, "0123456789").name == "0123456 2"
