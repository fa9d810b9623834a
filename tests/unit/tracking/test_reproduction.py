"""Which runs belong together: those of one execution of the pipeline."""

import psutil
import pytest

from minivlm.tracking.reproduction import _is_dvc, execution_id, execution_key, join


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
    first = execution_id("key")
    assert join(tmp_path, first, "0123456789").name == "slow-owl"
    again = join(tmp_path, first, "0123456789")
    assert (again.name, again.is_new) == ("slow-owl", False)
    monkeypatch.delenv("DVC_EXP_NAME")
    assert join(tmp_path, execution_id(None), "0123456789").name == "0123456 1"
    assert join(tmp_path, execution_id(None), "0123456789").name == "0123456 2"


def test_an_execution_that_goes_on_takes_up_the_reproduction_with_what_it_cost(tmp_path):
    first = join(tmp_path, execution_id("a"), "0123456789", "same")
    first.add("base", {"hours": 1.0})
    second = join(tmp_path, execution_id("b"), "0123456789", "same", earlier=execution_id("a"))
    assert (second.run, second.name, second.is_new) == (first.run, first.name, False)
    assert second.add("sft", {"hours": 2.0}) == {"hours": 3.0}
    assert join(tmp_path, execution_id("b"), "0123456789", "same").run == first.run  # its next stage
    third = join(tmp_path, execution_id("c"), "0123456789", "same", earlier=execution_id("b"))
    assert third.run == first.run


@pytest.mark.parametrize("damage", [b"", b"[]", b"3", b"{", b'{"run": "1"}', b"\xff", None])
def test_a_reproduction_that_is_damaged_or_gone_is_not_taken_up(tmp_path, damage):
    first = join(tmp_path, execution_id("a"), "0123456789", "same")
    first.file.unlink() if damage is None else first.file.write_bytes(damage)
    assert join(tmp_path, execution_id("b"), "0123456789", "same", earlier=execution_id("a")).is_new


@pytest.mark.parametrize("earlier", ["", "../a", "nobody", "0" * 16])
def test_an_execution_that_nobody_knows_is_not_taken_up(tmp_path, earlier):
    (tmp_path / "a.json").write_text('{"run": "1", "name": "1", "says": "same", "experiment": ""}')
    (tmp_path / "below").mkdir()
    assert join(tmp_path / "below", execution_id("b"), "0123456789", "same", earlier=earlier).is_new


def test_with_other_parameters_or_as_an_experiment_it_is_another_reproduction(tmp_path, monkeypatch):
    join(tmp_path, execution_id("a"), "0123456789", "same")
    assert join(tmp_path, execution_id("b"), "0123456789", "other", earlier=execution_id("a")).is_new
    monkeypatch.setenv("DVC_EXP_NAME", "slow-owl")
    assert join(tmp_path, execution_id("c"), "0123456789", "same", earlier=execution_id("a")).is_new
