"""Every fault that a training meets ends in one line and loses nothing; one of each kind."""

import pytest

from tests.reliability.faults import FAULTS, inject, not_finite
from tests.reliability.kills import make_stage

pytestmark = pytest.mark.slow


# Those that a unit test cannot show; `-m long` for the others.
SHORT = ("disk full at a saved state", "loading process killed")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in SHORT else pytest.mark.long) for kind in FAULTS]
)
def test_it_ends_in_one_line_and_goes_on_as_if_nothing_had_been(inputs, whole, tmp_path, kind):
    assert inject(make_stage(tmp_path / "checkout", inputs), whole, FAULTS[kind], 5).faults == []


def test_a_loss_that_is_not_finite_names_the_rows_and_nothing_is_lost(inputs, whole, tmp_path):
    assert not_finite(make_stage(tmp_path / "checkout", inputs), whole, 5).faults == []
