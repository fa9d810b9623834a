"""The port that was asked for, or the next free one."""

import errno
import socket

import pytest

from minivlm.errors import UserError
from minivlm.ports import HOST, LAST, free_port, listen


def test_a_port_in_use_is_passed_over():
    with listen(HOST, 0) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) > port
        with pytest.raises(UserError, match=f"port {port}: Address already in use; .* --port"):
            free_port(port, attempts=1)


def test_a_port_stays_taken_from_the_moment_that_it_is_found():
    with listen(HOST, 20_000) as first, listen(HOST, 20_000) as second:
        assert first.getsockname()[1] < second.getsockname()[1]


def test_there_is_none_after_the_last():
    with pytest.raises(UserError, match="port 65535: Address already in use") as _, listen(HOST, LAST):
        free_port(LAST)


def test_what_is_wrong_beside_use_is_said_and_ends_the_search(monkeypatch):
    tried = []

    def refused(self, address):
        tried.append(address)
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refused)
    with pytest.raises(UserError, match="port 80: Permission denied; choose another with --port"):
        free_port(80)
    assert len(tried) == 1
