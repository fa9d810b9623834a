"""One comparison at toy size for all tests of this folder."""

import pytest

from tests.unit.benchmarks.tiny import BASE, DEFAULTS, OPTIONS


@pytest.fixture(scope="session")
def found(tmp_path_factory):
    from benchmarks.comparing import compare

    return compare(OPTIONS, BASE, DEFAULTS, tmp_path_factory.mktemp("step"))
