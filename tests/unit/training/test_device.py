"""Processes for pictures."""

import pytest

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


@pytest.mark.parametrize(("name", "few", "enough"), [("cpu", 19_999, 20_000), ("cuda:0", 999, 1_000)])
def test_few_rows_are_not_worth_a_worker(monkeypatch, name, few, enough):
    """On a GPU 10,000 photographs are: decoded by the training itself they would keep it waiting."""
    monkeypatch.setattr(hardware, "cores", lambda: 8)
    assert device.loader_workers(8, 1, name, few) == 0
    assert device.loader_workers(8, 1, name, enough) > 0
