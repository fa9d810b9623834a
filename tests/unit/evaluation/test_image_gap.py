"""The image gap as an experiment: same rows, other pictures."""

import pytest

from minivlm.evaluation.image_gap import image_gap

PICTURES = [f"hash {i}" for i in range(5)]
ROWS = list(range(8))
OF_ROW = [0, 0, 1, 2, 3, 3, 3, 4]


def test_a_model_that_looks_has_a_gap_and_two_exchanges_have_none():
    def loss(rows, pictures):
        # 2 nats a token with the right picture, 5 with any other; a row has two supervised tokens.
        return sum(4 if OF_ROW[r] == p else 10 for r, p in zip(rows, pictures, strict=True)), 2 * len(rows)

    result = image_gap(ROWS, OF_ROW, PICTURES, loss, seed=1)
    assert (result.loss, result.gap, result.shuffled) == (2, 3, 0)


def test_rows_of_one_picture_all_get_the_same_other_picture():
    seen = []

    def loss(rows, pictures):
        assert list(rows) == ROWS, "rows stay, pictures move"
        seen.append(list(pictures))
        return 1.0, 1

    image_gap(ROWS, OF_ROW, PICTURES, loss, seed=3)
    right, *others = seen
    assert others[0] != others[1], "the baseline compares two different exchanges"
    assert right == OF_ROW
    for other in others:
        assert all(a != b for a, b in zip(other, OF_ROW, strict=True))
        assert len(set(zip(other, OF_ROW, strict=True))) == len(PICTURES)


def test_the_seed_fixes_the_exchange():
    def run(seed):
        seen = []
        image_gap(ROWS, OF_ROW, PICTURES, lambda _, pictures: (seen.append(list(pictures)) or 0.0, 1), seed)
        return seen

    assert run(7) == run(7)
    assert run(7)[1] != run(8)[1]


def test_rows_without_supervised_tokens_are_an_error():
    with pytest.raises(ValueError, match="no supervised token"):
        image_gap(ROWS, OF_ROW, PICTURES, lambda *_: (0.0, 0), seed=0)
