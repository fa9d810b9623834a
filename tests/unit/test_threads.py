"""Threads that wait leave their cores, unless the user has chosen how they wait."""

import pytest

from minivlm.threads import share_cores


@pytest.mark.parametrize(
    ("chosen", "given"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_threads_wait_as_the_user_chose_and_otherwise_not_long(chosen, given):
    environment = dict(chosen)
    share_cores(environment)
    assert environment.get("GOMP_SPINCOUNT") == given
    assert {**environment, **chosen} == environment
