"""Warm-up and cosine, at their ends and in between."""

import itertools
import math

import pytest

from minivlm.training.schedule import evenly_spaced, learning_rate


def rates(total, warmup=0.1, least=0.05):
    return [learning_rate(step, total, 2.0, warmup, least) for step in range(1, total + 1)]


def test_it_rises_in_equal_parts_to_the_peak():
    assert rates(100)[:10] == pytest.approx([0.2 * i for i in range(1, 11)])


def test_it_falls_from_the_peak_to_the_last_step_s_share():
    after = rates(100)[9:]
    assert after[0] == 2.0 and after[-1] == pytest.approx(0.1)
    assert all(a > b for a, b in itertools.pairwise(after))


def test_half_way_down_it_is_half_way_between():
    # 10 steps of warm-up, 90 down: step 55 is the middle.
    assert learning_rate(55, 100, 2.0, 0.1, 0.05) == pytest.approx((2.0 + 0.1) / 2)
    assert learning_rate(40, 100, 2.0, 0.1, 0.0) == pytest.approx(1 + math.cos(math.pi / 3))


@pytest.mark.parametrize("total", [1, 2, 3, 7])
@pytest.mark.parametrize("warmup", [0.0, 0.3, 1.0])
def test_short_trainings_have_finite_rates_up_to_the_peak(total, warmup):
    assert all(0 < rate <= 2.0 for rate in rates(total, warmup))


def test_without_warmup_it_starts_at_the_peak():
    assert rates(10, warmup=0.0)[0] == 2.0


def test_a_step_outside_the_training_is_refused():
    for step in (0, 11):
        with pytest.raises(ValueError, match="step"):
            learning_rate(step, 10, 1.0, 0.1, 0.1)


def test_validations_are_even_and_end_with_the_last_step():
    assert evenly_spaced(100, 4) == {25, 50, 75, 100}
    assert evenly_spaced(3, 10) == {1, 2, 3}
    assert evenly_spaced(7, 1) == {7}
