"""The loader's benchmark: every row is loaded, and compared with what a step consumes where that is known."""

import pytest

from benchmarks import loader, stores
from benchmarks.record import machine
from minivlm.files import write_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "DRAWN", 2)
        stores.write_stores(folder, 24, (32, 24), **loader.MADE)
    return folder


def test_every_row_decodes_a_picture_of_its_own(folder):
    batches = list(loader.batches(folder, "pretrain", 0, 2048, epoch=0))
    assert sum(batch.samples for batch in batches) == sum(len(batch.pixels) for batch in batches) == 24
    assert {tuple(batch.pixels.shape[1:]) for batch in batches} == {(3, 224, 224)}
    assert all(batch.padded_tokens <= 2048 for batch in batches)


def test_the_ratio_is_to_the_rows_that_a_step_consumes(folder, tmp_path):
    step = {"pretrain": {"samples_per_second": 10.0, "ratio": 5.0}, "machine": machine()}
    write_json(tmp_path / ("step_gpu.json" if machine()["gpu"] else "step.json"), step)
    consumed = loader.consumption(tmp_path)
    assert consumed == {"pretrain": 10.0} and loader.consumption(tmp_path / "none") == {}
    [line] = loader.loading(folder, "pretrain", [0], 2048, 1, consumed["pretrain"])
    assert line["ratio"] == pytest.approx(line["rows_per_second"] / 10)
    [line] = loader.loading(folder, "sft", [0], 2048, 1, None)
    assert line["ratio"] is None and line["rows_per_second"] > 0


def test_a_step_of_another_machine_is_not_what_this_loader_has_to_beat(tmp_path, monkeypatch):
    here = {"cpu": "a", "cores": 2, "gpu": None}
    monkeypatch.setattr(loader, "machine", lambda: here)
    write_json(tmp_path / "step.json", {"sft": {"samples_per_second": 10.0}, "machine": here | {"cores": 64}})
    write_json(tmp_path / "step_gpu.json", {"sft": {"samples_per_second": 900.0}, "machine": here | {"gpu": "g"}})
    assert loader.consumption(tmp_path) == {}
    monkeypatch.setattr(loader, "machine", lambda: here | {"gpu": "g"})
    assert loader.consumption(tmp_path) == {"sft": 900.0}
