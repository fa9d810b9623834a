"""Processes for pictures."""

from minivlm import hardware
from minivlm.training import device


def test_workers_get_the_cores_that_training_leaves(monkeypatch):
    monkeypatch.setattr(hardware, "cores", lambda: 8)
    assert device.loader_workers(8, 2, "cpu", 50_000) == 6
    assert device.loader_workers(3, 2, "cpu", 50_000) == 3
    assert device.loader_workers(8, 8, "cpu", 50_000) == 0
    assert device.loader_workers(8, 8, "cuda:0", 50_000) == 8


def test_trainings_of_one_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr(hardware, "cores", lambda: 8)
    assert device.loader_workers(8, 2, "cpu", 50_000, trainings=2) == 2
    assert device.loader_workers(8, 4, "cpu", 50_000, trainings=2) == 0
    assert device.loader_workers(16, 1, "cuda:1", 50_000, trainings=8) == 2


def test_few_rows_are_not_worth_a_worker():
    assert device.loader_workers(8, 1, "cuda:0", device.ROWS_WORTH_A_WORKER - 1) == 0
