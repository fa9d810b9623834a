"""Two kills, and the training is as if there had been none; `make kills N=50` does the same at length."""

import random

import pytest

from tests.reliability.kills import killed_and_gone_on, make_stage
from tests.reliability.moments import Moment


@pytest.mark.parametrize("everything", [False, True], ids=["the stage", "all its processes"])
def test_a_killed_training_goes_on_to_the_same_bytes_in_one_run_with_each_step_once(
    inputs, whole, tmp_path, everything
):
    """Killed somewhere in its steps, each of which is saved: what it goes on from is there."""
    moment = Moment("training", random.Random(int(everything)).uniform(0.1, 1.0), everything)
    outcome = killed_and_gone_on(make_stage(tmp_path / "checkout", inputs), whole, [moment], save_minutes=0.0)
    assert outcome.faults == []
    assert (len(outcome.kills), outcome.resumed) == (1, 1)
