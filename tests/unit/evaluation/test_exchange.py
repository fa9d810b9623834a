"""The exchange of pictures behind every shuffled figure."""

import pytest

from minivlm.errors import UserError
from minivlm.evaluation.exchange import exchange


@pytest.mark.parametrize("count", [2, 3, 10, 301])
@pytest.mark.parametrize("seed", [0, 20])
def test_every_picture_moves_and_none_is_lost(count, seed):
    order = exchange([f"hash {i}" for i in range(count)], seed)
    assert sorted(order) == list(range(count))
    assert all(i != j for i, j in enumerate(order))


def test_the_seed_decides_the_exchange():
    pictures = list(range(50))
    assert exchange(pictures, 1) == exchange(pictures, 1) != exchange(pictures, 2)


def test_copies_of_a_picture_are_refused():
    with pytest.raises(ValueError, match="distinct"):
        exchange(["a", "b", "a"], 0)


def test_one_picture_cannot_be_exchanged():
    with pytest.raises(UserError, match="two distinct"):
        exchange(["a"], 0)
