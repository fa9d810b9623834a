"""Every row once an epoch, parts of epochs, accumulation."""

import numpy as np
import pytest

from minivlm.training.steps import plan_steps, regroup

ROWS = np.arange(1000, 1200)
LENGTHS = np.random.default_rng(0).integers(5, 40, len(ROWS))


def plan(epochs, accumulation=1, seed=0):
    return plan_steps(ROWS, LENGTHS, batch_tokens=128, accumulation=accumulation, epochs=epochs, seed=seed)


def flat(steps):
    return [int(row) for step in steps for batch in step for row in batch]


def test_an_epoch_is_every_row_once_and_the_next_has_another_order():
    one, two = plan(1), plan(2)
    assert sorted(flat(one)) == list(ROWS)
    assert flat(two)[: len(ROWS)] == flat(one)
    assert sorted(flat(two)[len(ROWS) :]) == list(ROWS) and flat(two)[len(ROWS) :] != flat(one)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_part_of_an_epoch_is_rounded_down(accumulation):
    whole = len(plan(1, accumulation))
    assert len(plan(0.5, accumulation)) == whole // 2
    assert len(plan(1.5, accumulation)) == whole + len(plan(2, accumulation)[whole:]) // 2


def test_there_is_one_step_at_least():
    assert len(plan(1e-6)) == 1


def test_only_the_last_step_of_an_epoch_is_short():
    steps = plan(1, accumulation=3)
    assert {len(step) for step in steps[:-1]} == {3} and 1 <= len(steps[-1]) <= 3


def test_the_seed_orders_the_rows():
    assert flat(plan(1)) == flat(plan(1)) != flat(plan(1, seed=1))


def test_a_stream_is_cut_as_it_was_planned():
    assert list(regroup(iter("abcde"), [[0, 0], [0], [0, 0]])) == [["a", "b"], ["c"], ["d", "e"]]
