"""Peaks of devices against their chips' sizes, and names that look alike."""

import pytest
import torch

from minivlm.training import peaks
from minivlm.training.peaks import BOARDS, find_board, measured_peak, peak_of

# Streaming multiprocessors, operations of each in a clock (bf16 in, fp32 accumulation, dense), boost clock in GHz.
CHIPS = {
    "RTX 3090": (82, 512, 1.695),
    "RTX 3090 Ti": (84, 512, 1.86),
    "RTX A6000": (84, 1024, 1.8),
    "A40": (84, 1024, 1.74),
    "A100": (108, 2048, 1.41),
    "RTX 4080": (76, 512, 2.505),
    "RTX 4080 SUPER": (80, 512, 2.55),
    "RTX 4090": (128, 512, 2.52),
    "RTX 4090 D": (114, 512, 2.52),
    "L4": (58, 1024, 2.04),
    "L40S": (142, 1024, 2.49),
    "H100": (132, 4096, 1.83),
    "H100 PCIe": (114, 4096, 1.62),
    "H200": (132, 4096, 1.83),
    "RTX 5090": (170, 512, 2.407),
}
# Their maker gives a figure and no clock that it belongs to.
FROM_DATA_SHEETS = {"H100 NVL", "H200 NVL"}


def test_every_listed_device_is_held_against_its_chip_or_has_its_figure_from_a_data_sheet():
    assert CHIPS.keys() | FROM_DATA_SHEETS == BOARDS.keys()
    assert all("data sheet" in BOARDS[name].source for name in FROM_DATA_SHEETS)


@pytest.mark.parametrize("name", CHIPS)
def test_a_peak_is_what_its_chip_can_do(name):
    processors, operations, gigahertz = CHIPS[name]
    assert BOARDS[name].flops == pytest.approx(processors * operations * gigahertz * 1e9, rel=0.01)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090 D", "RTX 4090 D"),
        ("NVIDIA GeForce RTX 4080 SUPER", "RTX 4080 SUPER"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA L40S", "L40S"),
    ],
)
def test_a_device_is_known_by_its_name(name, key):
    assert find_board(name)[0] == key


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 5090 D",
        "NVIDIA A10",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "AMD EPYC",
        "NVIDIA L40",
    ],
)
def test_a_chip_of_a_like_name_is_another(name):
    assert find_board(name) is None


def test_a_device_without_an_entry_is_measured():
    peak = peak_of("AMD EPYC", "cpu", "fp32")
    assert peak.source.startswith("measured here: the fastest of ")
    assert f", {torch.get_num_threads()} thread" in peak.source
    assert 1e8 < peak.flops < 1e15
    assert peak_of("NVIDIA H200", "cuda:0", "bf16").flops == BOARDS["H200"].flops


def test_the_processes_of_a_machine_share_its_peak(monkeypatch):
    threads, there = torch.get_num_threads(), peaks.cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert f", {min(there, 2 * threads)} thread" in measured_peak("cpu", "fp32", seconds=0.0).source
    assert torch.get_num_threads() == threads


def test_the_measured_peak_is_the_fastest_of_several_products(monkeypatch):
    """The clock is a stand-in: 3 products, then until the time is over; the fastest one counts."""
    times = iter([0.0, 0.0, 0.3, 1.0, 1.1, 2.0, 2.2, 2.3, 3.0, 3.4, 9.0])
    monkeypatch.setattr(peaks.time, "perf_counter", lambda: next(times))
    peaks._fastest_product.cache_clear()
    found = measured_peak("cpu", "fp32", seconds=5.0)
    peaks._fastest_product.cache_clear()
    assert found.source.startswith("measured here: the fastest of 4 products")
    assert found.flops == pytest.approx(2 * 1024**3 / 0.1)
