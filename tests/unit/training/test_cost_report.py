"""cost.json from plain numbers."""

import dataclasses
from types import SimpleNamespace

import pytest

from minivlm import hardware
from minivlm.config import Prices
from minivlm.files import read_json
from minivlm.training import cost_report
from minivlm.training.cost_report import Spent, money, numbers, report_base, report_stage
from minivlm.training.energy import Energy
from minivlm.training.feature_cache import Filled
from minivlm.training.peaks import Peak
from minivlm.training.result import FitResult

PRICES = Prices(currency="CNY", cpu_hour=0.2, gpu_hour={"RTX 4090": 1.88, "H200": 16.0, "RTX 4090 D": 1.5})
GPU = "NVIDIA GeForce RTX 4090"
SPENT = Spent(
    seconds=1800.0, steps=30, samples=900, tokens=9000, padded_tokens=10000, flops=9 * 10**14,
    validation_flops=10**14, optimizer_flops=10**12, micro_batches=60, precision="bf16",
)  # fmt: skip
NO_ENERGY = Energy(None, None, "no meter")


def report(spent=SPENT, **changes):
    values = {"device_name": GPU, "prices": PRICES, "peak": Peak(165.2e12, "a paper"), "energy": NO_ENERGY}
    return cost_report.cost_report(spent, **(values | {"memory": {"process": 5}} | changes))


class Notes:
    def __init__(self):
        self.metrics = {}

    def log_metrics(self, metrics, step=None):
        self.metrics |= metrics


def test_an_hour_costs_what_params_say():
    assert money(3600, GPU, PRICES) == 1.88
    assert money(1800, "AMD EPYC 9354", PRICES) == pytest.approx(0.1)


def test_gpus_and_machines_are_paid_each():
    assert report(devices=4)["money"] == pytest.approx(4 * 0.94)
    assert report(device_name=hardware.cpu_model(), devices=2)["money"] == pytest.approx(0.2)


def test_the_longest_name_that_fits_gives_the_price():
    assert hardware.price_per_hour("NVIDIA GeForce RTX 4090 D", PRICES) == 1.5


def test_a_gpu_without_a_price_has_no_money():
    assert money(3600, "NVIDIA A100-SXM4-80GB", PRICES) is None


def test_what_a_projection_takes_at_least_follows_the_micro_batches():
    spent = dataclasses.replace(SPENT, flops=1, validation_flops=0, optimizer_flops=0, micro_batches=1000)
    figures = report(spent, device_name="AMD EPYC 9354")
    assert figures["projected"]["H200"]["seconds"] == pytest.approx(7.5)


def test_the_report_holds_rates_money_and_shares():
    figures = report()
    assert (figures["samples_per_second"], figures["tokens_per_second"]) == (0.5, 5.0)
    assert (figures["hours"], figures["money"]) == (0.5, pytest.approx(0.94))
    assert figures["padding_share"] == pytest.approx(0.1)
    assert figures["mfu"] == pytest.approx(1e15 / 1800 / 165.2e12)
    assert figures["flops_per_second"] == pytest.approx(1e15 / 1800)


def test_several_devices_share_the_work():
    one, four = report(), report(devices=4)
    assert four["mfu"] == pytest.approx(one["mfu"] / 4)
    assert four["money"] == pytest.approx(4 * one["money"])


def test_parts_on_other_numbers_of_devices_are_paid_each_by_its_own():
    """An hour on 8 GPUs, then one on a single GPU."""
    figures = report(dataclasses.replace(SPENT, seconds=7200.0, device_seconds=9 * 3600.0))
    assert figures["device_seconds"] == 9 * 3600 and figures["hours"] == 2
    assert figures["money"] == pytest.approx(9 * 1.88)
    assert figures["mfu"] == pytest.approx(1e15 / (9 * 3600) / 165.2e12)


def test_what_the_feature_cache_took_is_paid_and_slows_no_rate():
    """Half an hour of training after a quarter of filling, on four GPUs: three device hours."""
    without, found = report(devices=4), report(devices=4, filled=Filled(pictures=100, seconds=900.0))
    assert found["features"] == {"pictures": 100, "seconds": 900.0} and "features" not in without
    assert (found["seconds"], found["hours"], found["device_seconds"]) == (1800.0, 0.75, 3 * 3600.0)
    assert found["money"] == pytest.approx(found["price_per_hour"] * found["device_seconds"] / 3600)
    for name in ("mfu", "flops_per_second", "samples_per_second", "projected"):
        assert found[name] == without[name]


def test_a_projection_counts_all_that_was_computed_and_takes_a_gpus_own_share():
    there = report()["projected"]["RTX 4090"]
    assert there["assumed_mfu"] == pytest.approx(1e15 / 1800 / 165.2e12)
    assert there["seconds"] == pytest.approx(1800 * SPENT.all_flops / 1e15)
    elsewhere = report(device_name="AMD EPYC", peak=Peak(1e12, "measured here"))["projected"]["RTX 4090"]
    assert elsewhere["assumed_mfu"] == 0.4


def test_energy_that_was_not_measured_is_null_with_the_reason():
    assert report()["energy"] == {
        "joules": None, "watt_hours": None, "mean_watts": None, "seconds": None, "source": None, "why": "no meter"
    }  # fmt: skip
    known = report(energy=Energy(7200.0, "a meter", seconds=1800.0))["energy"]
    assert known == {
        "joules": 7200.0,
        "watt_hours": 2.0,
        "mean_watts": 4.0,
        "seconds": 1800.0,
        "source": "a meter",
    }


def test_a_tracker_gets_every_number_and_nothing_else():
    found = numbers(report())
    assert found["projected"]["rtx_4090"]["hours"] > 0
    assert found["peak_memory_bytes"] == {"process": 5}
    assert "energy" not in found and "device" not in found
    assert "money" not in found["projected"]["rtx_3090"]


def result(**changes):
    values = {key: value for key, value in dataclasses.asdict(SPENT).items() if key != "precision"}
    return FitResult(**(values | {"train_loss": 1.0, "precision": "fp32", "device": "cpu"} | changes))


def test_a_stage_writes_logs_and_says_it(tmp_path, capsys):
    notes = Notes()
    path = tmp_path / "sft" / "cost.json"
    report_stage("sft", path, result(val_loss=1.5, best_step=7), "AMD EPYC", PRICES, NO_ENERGY, notes)
    written = read_json(path)
    assert written["flops"] == SPENT.flops
    assert written["peak_source"].startswith("measured here")
    assert written["peak_memory_bytes"]["process"] > 10_000_000
    assert notes.metrics["mfu"] == pytest.approx(written["mfu"])
    said = capsys.readouterr().out
    assert "sft: loss 1.0000, validation 1.5000 at step 7; 1800 s in fp32, 0.1000 CNY, MFU " in said
    assert "projected to an RTX 4090: 0:" in said
    filled = Filled(100, 900.0)
    report_stage("sft", path, result(), "AMD EPYC", PRICES, NO_ENERGY, notes, filled=filled)
    assert notes.metrics["features"] == read_json(path)["features"] == dataclasses.asdict(filled)
    assert "; 1800 s in fp32 after 900 s for features, 0.1500 CNY, MFU " in capsys.readouterr().out


def test_the_base_is_the_sum_of_its_trainings_over_its_own_time(tmp_path):
    whole = SimpleNamespace(seconds=2000.0, energy=Energy(100.0, "a meter"))
    path, parts = tmp_path / "cost.json", {"vision_tower": SPENT, "llm": SPENT}
    report_base(path, parts, whole, GPU, "cuda:0", PRICES, Notes())
    written = read_json(path)
    assert written["flops"] == 2 * SPENT.flops
    assert written["seconds"] == 2000.0 and written["energy"]["joules"] == 100.0
    assert "samples_per_second" not in written and "tokens" not in written
    assert written["parts"]["llm"]["samples_per_second"] == 0.5
    assert written["parts"]["vision_tower"]["padding_share"] == pytest.approx(0.1)


def test_a_base_that_trains_nothing_leaves_no_old_cost(tmp_path):
    path = tmp_path / "cost.json"
    path.write_text("{}")
    whole = SimpleNamespace(seconds=2.0, energy=NO_ENERGY)
    assert report_base(path, {}, whole, GPU, "cuda:0", PRICES, Notes()) is None
    assert not path.exists()
