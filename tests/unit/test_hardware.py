"""Which price is a device's."""

import pytest

from minivlm import hardware
from minivlm.config import Prices

PRICES = Prices(
    currency="CNY", cpu_hour=0.2,
    gpu_hour={"RTX 3090": 1.0, "RTX 4090": 2.0, "RTX 3080 Laptop": 3.0, "RTX 3080 Ti": 4.0, "RTX 3080": 5.0,
              "L4": 6.0, "A10": 7.0, "H100": 8.0, "80GB HBM3 MIG 2g.20gb": 9.0},
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "price"),
    [
        ("NVIDIA GeForce RTX 4090", 2.0),
        ("nvidia geforce rtx 4090", 2.0),
        ("NVIDIA H100 80GB HBM3", 8.0),
        ("NVIDIA H100 PCIe", 8.0),
        ("NVIDIA A10", 7.0),
        ("NVIDIA GeForce RTX 3080 Ti", 4.0),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", 3.0),
        ("NVIDIA H100 80GB HBM3 MIG 2g.20gb", 9.0),
        ("AMD EPYC 9354", 0.2),
    ],
)
def test_a_device_has_the_price_of_its_name(name, price):
    assert hardware.price_per_hour(name, PRICES) == price


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA GeForce RTX 3080 Ti Laptop GPU",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA L40S",
        "NVIDIA A100-SXM4-80GB",
        "NVIDIA GH100",
    ],
)
def test_another_chip_of_a_like_name_has_none(name):
    assert hardware.price_per_hour(name, PRICES) is None
