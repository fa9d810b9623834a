"""What the tests of a toy training share."""

import pytest

from tests.integration.toy_stage import write_toy_inputs
from tests.reliability.kills import make_stage, run_whole


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Base and token stores that a toy training reads."""
    return write_toy_inputs(tmp_path_factory.mktemp("inputs"), tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """What that training writes when nobody disturbs it."""
    return run_whole(make_stage(tmp_path_factory.mktemp("whole") / "checkout", inputs))
