"""Every row once an epoch, parts of epochs, accumulation, parts of a plan."""

import numpy as np
import pytest

from minivlm.data.batch_plan import plan_batches
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


def test_a_slice_holds_the_same_steps():
    steps = plan(2.5, accumulation=3)
    whole = [lists(step) for step in steps]
    epoch = len(plan(1, accumulation=3))
    for first, last in ((0, 2), (epoch - 1, epoch + 2), (2 * epoch, None), (epoch, epoch), (len(steps), None)):
        part = steps[first:last]
        assert [lists(step) for step in part] == whole[first:last] and len(part) == len(whole[first:last])
        assert len(part.batches) == len(list(part.batches)) == sum(map(len, whole[first:last]))
    assert lists(steps[epoch]) == whole[epoch] and lists(steps[-1]) == whole[-1]
    assert [lists(step) for step in steps[epoch:][1:3]] == whole[epoch + 1 : epoch + 3]


def lists(step):
    return [batch.tolist() for batch in step]


def test_ranks_share_the_micro_batches_of_each_step():
    steps = plan(2, accumulation=3)
    ranks = [steps.of_rank(rank, 2) for rank in range(2)]
    assert [len(rank) for rank in ranks] == [len(steps)] * 2
    for step, first, second in zip(steps, *ranks, strict=True):
        whole = lists(step)
        assert lists(first) == whole[0::2]
        assert lists(second) == (whole[1::2] if len(whole) == 2 else [*whole[1::2], whole[-1]])
    assert [len(rank.batches) for rank in ranks] == [len(list(rank.batches)) for rank in ranks]
    assert lists(steps[4:].of_rank(1, 2)[0]) == [*lists(steps[4])[1::2], lists(steps[4])[-1]]


def noted(made):
    def counted(lengths, batch_tokens, seed, epoch):
        made.append(epoch)
        return plan_batches(lengths, batch_tokens, seed, epoch)

    return counted


def test_a_later_step_is_had_without_the_batches_before_it(monkeypatch):
    steps, epoch, made = plan(5), len(plan(1)), []
    monkeypatch.setattr("minivlm.training.steps.plan_batches", noted(made))
    list(steps[epoch : epoch + 5])
    assert made == [1]


def test_a_loader_that_reads_ahead_makes_no_epoch_twice(monkeypatch):
    steps, made = plan(5), []
    steps._plans._kept.clear()

    monkeypatch.setattr("minivlm.training.steps.plan_batches", noted(made))
    ahead = iter(steps.batches)
    for _ in range(4):
        next(ahead)
    assert sum(len(step) for step in regroup(ahead, steps)) == len(steps.batches) - 4
    assert made == [0, 1, 2, 3, 4] and len(steps._plans._kept) == 2
