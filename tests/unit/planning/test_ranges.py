"""Ranges: how factors join, how stages add up, what a few timed steps say of many."""

import math

import numpy as np
import pytest

from minivlm.planning.ranges import Factor, Range, rate, total, with_factors


def test_independent_factors_add_in_quadrature_of_their_logarithms():
    found = with_factors(10.0, [Factor("a", 1 / 2, 2.0, ""), Factor("b", 1.0, 2.0, "")])
    assert found.low == pytest.approx(5.0)
    assert found.high == pytest.approx(10 * math.exp(math.sqrt(2) * math.log(2)))
    assert with_factors(10.0, []) == Range(10.0, 10.0, 10.0)


def test_stages_add_up_end_by_end():
    assert total([Range(2, 1, 4), Range(3, 2, 5)]) == Range(5, 3, 9)


def test_the_rate_weighs_a_step_by_its_work():
    found = rate([(1.0, 100), (3.0, 300), (2.0, 200)])
    assert (found.expected, found.low, found.high) == (
        pytest.approx(0.01),
        pytest.approx(0.01),
        pytest.approx(0.01),
    )


def test_the_range_of_a_rate_holds_the_mean_of_many_steps():
    """95 of 100 intervals should; of 200 here nine in ten at least, as a bootstrap is a little narrow."""
    random = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        flops = random.integers(500, 1500, 30)
        seconds = flops * random.gamma(8.0, 1 / 8, 30)  # one second an operation on average
        found = rate(list(zip(seconds.tolist(), flops.tolist(), strict=True)), seed)
        held += found.low <= 1.0 <= found.high
    assert held >= 180


def test_uneven_steps_have_a_wider_range():
    even, uneven = [(1.0, 100), (1.1, 100)] * 10, [(0.2, 100), (1.9, 100)] * 10
    assert rate(uneven).high - rate(uneven).low > 5 * (rate(even).high - rate(even).low)
