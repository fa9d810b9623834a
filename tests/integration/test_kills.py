"""Two kills, and the training is as if there had been none; `make kills N=50` does the same at length."""

import random

import pytest

from tests.reliability.kills import killed_and_gone_on, make_stage


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_training_goes_on_to_the_same_bytes_in_one_run_with_each_step_once(inputs, whole, tmp_path, seed):
    outcome = killed_and_gone_on(make_stage(tmp_path / "checkout", inputs), whole, 1, random.Random(seed))
    assert outcome.faults == []
