"""Two kills, and the training is as if there had been none; `make kills N=50` does the same at length."""

import random

import pytest

from tests.integration.toy_stage import write_toy_inputs
from tests.reliability.kills import killed_and_gone_on, make_stage, run_whole


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_toy_inputs(tmp_path_factory.mktemp("inputs"), tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    return run_whole(make_stage(tmp_path_factory.mktemp("whole") / "checkout", inputs))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_training_goes_on_to_the_same_bytes_in_one_run_with_each_step_once(inputs, whole, tmp_path, seed):
    outcome = killed_and_gone_on(make_stage(tmp_path / "checkout", inputs), whole, 1, random.Random(seed))
    assert outcome.faults == []
