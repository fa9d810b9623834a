"""Operations → hours and money elsewhere."""

import pytest

from minivlm.config import Prices
from minivlm.training.peaks import BOARDS
from minivlm.training.projection import HIGHEST_MFU, LAUNCH_SECONDS, LOWEST_MFU, projection, projections

PRICES = Prices(currency="CNY", cpu_hour=0.2, gpu_hour={"RTX 4090": 1.88, "H200": 16.0})


def test_an_hour_of_operations_at_the_assumed_share_is_an_hour():
    found = projection(165.2e12 * 3600 * 0.4, 1, PRICES, "RTX 4090")
    assert (found["hours"], found["money"]) == (pytest.approx(1.0), pytest.approx(1.88))
    assert found["hours_low"] == pytest.approx(0.4 / HIGHEST_MFU)
    assert found["hours_high"] == pytest.approx(0.4 / LOWEST_MFU)
    assert found["money_high"] == pytest.approx(1.88 * 0.4 / LOWEST_MFU)
    assert found["mfu_from"].startswith("assumed")


def test_a_share_measured_on_a_gpu_is_carried_over_with_a_range():
    found = projection(BOARDS["H200"].flops * 3600, 1, PRICES, "H200", measured_mfu=0.3)
    assert found["assumed_mfu"] == 0.3
    assert (found["mfu_low"], found["mfu_high"]) == (pytest.approx(0.18), pytest.approx(0.42))
    assert "reached in this run" in found["mfu_from"]
    assert projection(1e15, 1, PRICES, "H200", measured_mfu=0.65)["mfu_high"] == 0.7
    assert projection(1e15, 1, PRICES, "H200", measured_mfu=0.8)["mfu_high"] == 0.8


def test_many_small_batches_cannot_go_faster_than_their_kernels_are_launched():
    found = projection(1e9, 2000, PRICES, "H200")
    for end, launch in LAUNCH_SECONDS.items():
        assert found[f"seconds{end}"] == pytest.approx(2000 * launch)
        assert found[f"hours{end}"] == pytest.approx(2000 * launch / 3600)
    assert found["seconds_low"] < found["seconds"] < found["seconds_high"]


def test_without_a_price_there_is_no_money():
    found = projections(1e15, 1, PRICES)
    assert found.keys() == {"RTX 3090", "RTX 4090", "H200"}
    assert found["RTX 3090"]["money"] is None and found["RTX 3090"]["hours"] > found["RTX 4090"]["hours"]
