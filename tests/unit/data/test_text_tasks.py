"""Text tasks: what a sketch holds, where it stands in a row, and what a batch of them supervises."""

import numpy as np
import pytest

from minivlm.data.batch_plan import IGNORED
from minivlm.data.text_tasks import (
    EXCHANGED,
    WIDEST_SLOT,
    Exchanges,
    TextTask,
    collate_tasks,
    exchange_words,
    make_task,
    sketch,
    telling,
)

IMAGE = 3
SOURCES = [np.arange(100, 123), np.arange(200, 209), np.arange(300, 301)]


def rng(seed=0):
    return np.random.default_rng(seed)


def row(*ids, supervised=()):
    numbers = np.array(ids, dtype=np.int64)
    return numbers, np.isin(numbers, supervised)


@pytest.mark.parametrize("seed", range(20))
def test_a_sketch_holds_runs_of_one_or_two_sources_each_token_once(seed):
    slots = sketch(SOURCES, rng(seed))
    assert slots.shape[1] == WIDEST_SLOT
    tokens = slots[slots >= 0].tolist()
    assert len(tokens) == len(set(tokens))
    assert set(tokens) <= {int(token) for source in SOURCES for token in source}
    assert 1 <= len({token // 100 for token in tokens}) <= 2
    for slot in slots:
        filled = slot[slot >= 0]
        assert len(filled) >= 1
        assert (slot[: len(filled)] >= 0).all()  # filled from the left
        assert (np.diff(filled) == 1).all()  # neighbours in the text


def test_a_sketch_leaves_out_about_a_tenth():
    share = [np.count_nonzero(sketch(SOURCES[:1], rng(seed)) >= 0) / len(SOURCES[0]) for seed in range(400)]
    assert 0.85 < np.mean(share) < 0.95
    assert min(share) > 0


def test_a_sketch_of_one_short_text_is_never_empty():
    assert all(len(sketch(SOURCES[2:], rng(seed))) == 1 for seed in range(60))


def test_the_slots_stand_in_random_order():
    firsts = [sketch(SOURCES[:1], rng(seed))[:, 0] for seed in range(20)]
    assert any((np.diff(first) < 0).any() for first in firsts)


def test_nothing_said_gives_no_slot():
    assert sketch([], rng()).shape == (0, WIDEST_SLOT)


def test_a_sketch_is_the_same_for_the_same_seed_only():
    assert np.array_equal(sketch(SOURCES, rng(5)), sketch(SOURCES, rng(5)))
    assert not np.array_equal(sketch(SOURCES, rng(5)), sketch(SOURCES, rng(6)))


@pytest.mark.parametrize("seed", range(10))
def test_the_sketch_stands_where_the_picture_stood_and_the_same_tokens_are_supervised(seed):
    ids, mask = row(1, 50, IMAGE, 51, 52, 60, 61, 2, supervised=(60, 61, 2))
    task = make_task(ids, mask, SOURCES, IMAGE, rng(seed))
    assert len(task.ids) == len(task.mask) == len(ids) - 1 + len(task.slots)
    assert np.count_nonzero(task.ids == IMAGE) == len(task.slots)
    assert np.flatnonzero(task.ids == IMAGE).tolist() == list(range(2, 2 + len(task.slots)))
    assert task.ids[task.ids != IMAGE].tolist() == ids[ids != IMAGE].tolist()
    assert task.ids[task.mask].tolist() == [60, 61, 2]
    assert ids.tolist() == [1, 50, IMAGE, 51, 52, 60, 61, 2]  # the row itself is left as it was


# "two red boats", "two blue birds", …: 3x numerals, 4x colours, 5x things, each between the same neighbours.
PHRASES = [np.array([9, 30 + n, 20, 40 + c, 21, 50 + t, 22]) for n in range(3) for c in range(4) for t in range(5)]


@pytest.mark.parametrize("pictures", [2, 3, 16])
def test_several_pictures_share_one_sketch_each_token_of_it_once(pictures):
    ids, mask = row(1, *[IMAGE, 7] * pictures, 9, 2, supervised=(9, 2))
    task = make_task(ids, mask, SOURCES[:1], IMAGE, rng(1))
    assert np.count_nonzero(task.ids == IMAGE) == len(task.slots) > 1
    assert np.array_equal(task.ids[task.ids != IMAGE], ids[ids != IMAGE])
    assert task.ids[task.mask].tolist() == [9, 2]
    runs = [len(run) for run in "".join("i" if x == IMAGE else " " for x in task.ids).split()]
    assert max(runs) - min(runs) <= 1, "each picture has its part"


def test_a_word_is_exchanged_for_one_that_stands_between_the_same_neighbours():
    exchanges = Exchanges([text for text in PHRASES if text[3] != 43 or text[5] != 54])
    random = rng(0)
    drawn = {token: {exchanges.draw(token, random) for _ in range(200)} for token in (31, 41, 51, 20, 63)}
    assert drawn[31] == {30, 32}
    assert drawn[41] == {40, 42, 43}
    assert drawn[51] == {50, 52, 53, 54}
    assert drawn[20] == {20}  # nothing else is ever there
    assert drawn[63] == {63}  # no text has it


def test_a_token_that_shares_more_neighbourhoods_is_drawn_more_often():
    texts = [np.array([left, token, 9]) for token in (1, 2) for left in (10, 11, 12)] + [np.array([10, 3, 9])]
    random = rng(0)
    exchanges = Exchanges(texts)
    drawn = [exchanges.draw(1, random) for _ in range(2000)]
    assert abs(drawn.count(2) / len(drawn) - 3 / 4) < 0.05
    assert set(drawn) == {2, 3}


def test_a_fixed_token_is_neither_exchanged_nor_put_in_another_place():
    exchanges, random = Exchanges(PHRASES, fixed=[31]), rng(0)
    assert {exchanges.draw(31, random) for _ in range(50)} == {31}
    assert {exchanges.draw(30, random) for _ in range(50)} == {32}


def test_short_texts_exchange_nothing():
    for texts in ([], [np.array([5])], [np.array([5, 6])]):
        assert Exchanges(texts).draw(5, rng()) == 5


def test_in_most_tasks_words_are_exchanged_alike_in_sketch_and_conversation():
    ids, mask = row(9, 32, IMAGE, 44, 55, 61, 2, supervised=(55, 61, 2))
    random, exchanges, exchanged = rng(0), Exchanges(PHRASES), 0
    for _ in range(400):
        before = make_task(ids, mask, [np.array([31, 41, 52, 32, 53, 41])], IMAGE, random)
        after = exchange_words(before, exchanges, random)
        assert np.array_equal(after.mask, before.mask)
        other = before.slots != after.slots
        changed = dict(zip(before.slots[other].tolist(), after.slots[other].tolist(), strict=True))
        expected = [changed.get(token, token) for token in before.ids.tolist()]
        assert after.ids.tolist() == expected
        assert all(old // 10 == new // 10 for old, new in changed.items())
        assert np.array_equal(after.slots == -1, before.slots == -1)
        exchanged += bool(changed)
    assert abs(exchanged / 400 - EXCHANGED) < 0.07


def test_without_a_sketch_no_word_is_exchanged():
    task = TextTask(*row(20, 21, 22, supervised=(20, 22)), np.empty((0, WIDEST_SLOT), dtype=np.int64))
    assert all(exchange_words(task, Exchanges(PHRASES), rng(seed)) is task for seed in range(20))


def test_a_batch_supervises_the_position_before_each_target():
    first = TextTask(*row(10, IMAGE, IMAGE, 11, 12, supervised=(11, 12)), np.array([[5, 6, -1, -1, -1]] * 2))
    second = TextTask(*row(20, 21, 22, supervised=(20, 22)), np.empty((0, WIDEST_SLOT), dtype=np.int64))
    third = TextTask(*row(IMAGE, 31, supervised=(31,)), np.array([[7, 8, 9, -1, -1]]))
    batch = collate_tasks([first, second, third], pad_token_id=0, most=5)
    assert batch.input_ids.tolist() == [[10, IMAGE, IMAGE, 11, 12], [20, 21, 22, 0, 0], [IMAGE, 31, 0, 0, 0]]
    assert batch.supervised[:4].tolist() == [2, 3, 6, 10]  # a first token has nothing before it to predict it
    assert batch.targets.tolist() == [11, 12, 22, 31] + 60 * [IGNORED]
    assert batch.slots[:, 0].tolist() == [5, 5, 7]
    assert (batch.samples, batch.tokens, batch.padded_tokens, batch.count) == (3, 10, 15, 4)
    assert batch.logit_positions == 64
    assert collate_tasks([first, second, third], pad_token_id=0).input_ids.shape == (3, 8)


def test_a_batch_keeps_its_values_on_its_way_to_a_device():
    batch = collate_tasks([TextTask(*row(20, 21, supervised=(21,)), np.full((0, WIDEST_SLOT), -1))], 0)
    moved = batch.to("cpu")
    assert moved.input_ids.equal(batch.input_ids)
    assert moved.tokens == 2


def test_telling_texts_are_at_least_a_third_as_long_as_the_longest():
    lengths = [len(text) for text in telling([np.arange(n) for n in (9, 3, 2, 0)])]
    assert lengths == [9, 3]
    assert telling([]) == []
