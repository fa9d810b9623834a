"""The batches of an epoch, and the few shapes that they take."""

import numpy as np
import pytest

from minivlm.data.batch_plan import padded_count, padded_length, plan_batches
from minivlm.errors import UserError

RANDOM = np.random.default_rng(0)
LENGTHS = RANDOM.gamma(8, 12, 20_000).astype(np.int64).clip(40, 320)
# Tokens of a row: the original's two stages, pictures of 196 tokens included, and the drawn scenes' two.
LIKE = {
    "pretrain": (RANDOM.normal(250, 14, 20_000).clip(205, 640), 16_384),
    "sft": ((215 + RANDOM.gamma(4, 46, 20_000)).clip(0, 1536), 16_384),
    "scenes, pretrain": (RANDOM.normal(70.4, 4, 12_000).clip(60, 85), 2048),
    "scenes, sft": (RANDOM.normal(124, 17, 12_000).clip(86, 225), 2048),
}


def shape(plan_of, lengths, budget):
    return len(plan_of), padded_length(int(lengths[plan_of].max()), budget)


def test_lengths_are_padded_to_a_sixteenth_of_the_power_of_two_below():
    padded = {1: 4, 4: 4, 5: 8, 64: 64, 65: 68, 127: 128, 128: 128, 199: 200, 255: 256}
    padded |= {256: 256, 257: 272, 511: 512, 512: 512, 513: 544, 1025: 1088}
    assert {length: padded_length(length) for length in padded} == padded
    for length in range(1, 5000):
        assert 0 <= padded_length(length) - length < max(4, length / 16)


def test_no_length_is_padded_beyond_the_bound():
    assert padded_length(317, 318) == 318 and padded_length(317, 320) == padded_length(317) == 320


def test_the_lengths_of_a_data_set_are_few():
    assert len({padded_length(n) for n in range(1, 1537)}) == 88


def test_supervised_positions_come_in_multiples_of_64():
    assert [padded_count(n) for n in (0, 1, 64, 65)] == [0, 64, 64, 128]


def test_every_row_is_in_one_batch_within_the_budget_with_its_padding():
    for epoch in range(2):
        plan = plan_batches(LENGTHS, 4096, seed=1, epoch=epoch)
        assert sorted(np.concatenate(list(plan)).tolist()) == list(range(len(LENGTHS)))
        assert all(np.prod(shape(rows, LENGTHS, 4096)) <= 4096 for rows in plan)


@pytest.mark.parametrize("name", LIKE)
def test_little_is_padded_and_batches_are_full(name):
    lengths, budget = LIKE[name][0].astype(np.int64), LIKE[name][1]
    plan = plan_batches(lengths, budget, seed=1, epoch=0)
    padded = sum(np.prod(shape(rows, lengths, budget)) for rows in plan)
    assert 1 - lengths.sum() / padded < 0.05
    assert len(plan) < 1.1 * lengths.sum() / budget + 1


def test_shapes_are_few_and_only_one_batch_is_not_full():
    plan = plan_batches(LENGTHS, 4096, seed=1, epoch=0)
    shapes = [shape(rows, LENGTHS, 4096) for rows in plan]
    assert sum(count < 4096 // length for count, length in shapes) <= 1
    assert len(set(shapes)) <= len({length for _, length in shapes}) + 1


def test_the_plan_follows_from_seed_and_epoch():
    def plan(seed, epoch):
        return [rows.tolist() for rows in plan_batches(LENGTHS[:500], 2048, seed, epoch)]

    assert plan(1, 0) == plan(1, 0)
    assert plan(1, 0) != plan(1, 1) != plan(2, 0) != plan(1, 0)


def test_batches_come_in_no_order_of_length_and_rows_change_company():
    first, second = (plan_batches(LENGTHS, 4096, seed=1, epoch=epoch) for epoch in (0, 1))
    longest = np.array([LENGTHS[rows].max() for rows in first])
    assert abs(np.corrcoef(longest[:-1], longest[1:])[0, 1]) < 0.2
    together = {frozenset(rows.tolist()) for rows in first} & {frozenset(rows.tolist()) for rows in second}
    assert len(together) < 0.01 * len(first)


def test_a_row_beyond_the_budget_says_what_to_raise():
    with pytest.raises(UserError, match=r"321 tokens .* batch_tokens = 320; raise batch_tokens"):
        plan_batches(np.array([3, 321]), 320, seed=0, epoch=0)
    assert plan_batches(np.array([317]), 318, seed=0, epoch=0)[0].tolist() == [0]


def test_no_rows_make_no_batches():
    assert list(plan_batches(np.array([], dtype=np.int64), 320, seed=0, epoch=0)) == []


def test_a_plan_is_a_sequence_and_its_slices_copy_nothing():
    plan = plan_batches(LENGTHS, 4096, seed=1, epoch=0)
    part = plan[3:7]
    assert len(part) == 4 and [rows.tolist() for rows in part] == [plan[i].tolist() for i in range(3, 7)]
    assert plan[-1].tolist() == plan[len(plan) - 1].tolist() and part.order is plan.order
    assert len(plan[5:2]) == len(plan[len(plan) :]) == 0
    with pytest.raises(IndexError):
        plan[len(plan)]
    with pytest.raises(ValueError, match="steps of one"):
        plan[::2]


def test_a_plan_of_positions_becomes_one_of_rows():
    rows = np.arange(len(LENGTHS)) * 3
    plan = plan_batches(LENGTHS, 4096, seed=1, epoch=0)
    assert all(np.array_equal(rows[a], b) for a, b in zip(plan, plan.of(rows), strict=True))


def test_the_plan_of_a_million_rows_takes_four_bytes_a_row():
    lengths = np.random.default_rng(2).integers(40, 90, 1_000_000)
    plan = plan_batches(lengths, 2048, seed=0, epoch=0)
    assert plan.order.nbytes + plan.bounds.nbytes < 4.5 * len(lengths)
