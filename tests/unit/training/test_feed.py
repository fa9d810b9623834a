"""A stage's rows as steps: planned from their lengths, read when they are asked for."""

from types import SimpleNamespace

import numpy as np
import pytest

from minivlm.errors import UserError
from minivlm.training.distributed import ALONE
from minivlm.training.feed import Feed

STORE = SimpleNamespace(
    lengths=np.array([5, 7, 6, 9, 8, 5]),
    training_rows=lambda: np.arange(4),
    validation_rows=lambda: np.arange(4, 6),
)
PLAN = {"batch_tokens": 16, "accumulation": 1, "epochs": 1.0, "seed": 0}


def test_a_row_that_does_not_fit_is_refused_before_anything_is_read():
    with pytest.raises(UserError, match="batch_tokens"):
        Feed(STORE, ALONE, **PLAN | {"batch_tokens": 8})


def test_batches_are_made_by_what_comes_later():
    feed, asked = Feed(STORE, ALONE, **PLAN), []
    assert feed.steps and feed.validates
    feed.read_with(lambda plan, rows: asked.append(rows) or list(plan))
    steps = list(feed.after(0))
    assert sorted(int(row) for step in steps for batch in step for row in batch) == [0, 1, 2, 3]
    for _ in range(2):  # each validation
        assert sorted(int(row) for batch in feed.validation() for row in batch) == [4, 5]
    assert asked == [4.0, 2.0, 2.0]
