"""Ports that servers listen on: the one that is asked for, or the next free one."""

from __future__ import annotations

import errno
import socket

from minivlm.errors import UserError

HOST = "127.0.0.1"
ATTEMPTS = 50
LAST = 65535


def listen(host: str, first: int, attempts: int = ATTEMPTS, change: str = "--port") -> socket.socket:
    """A socket that listens on the first free port from `first` on (0: any that is free), of so many.

    UserError when none is free or the address cannot be had; `change`: the options that name another.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    numbers = range(first, min(first + attempts, LAST + 1))
    for number in numbers:
        # The protocol is named: asyncio sends small pieces at once (TCP_NODELAY) only where it reads TCP there.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, number))
            listening.listen()
            return listening
        except (OSError, UnicodeError, TypeError) as error:  # the last two: a host that is no name
            listening.close()
            if len(numbers) == 1 or getattr(error, "errno", None) != errno.EADDRINUSE:
                said = getattr(error, "strerror", None) or "no address"
                raise UserError(f"{host}, port {number}: {said}; choose another with {change}") from None
    raise UserError(f"ports {first} to {numbers[-1]} are all in use; choose another with {change}")


def free_port(first: int = 0, attempts: int = ATTEMPTS) -> int:
    """The first port of loopback from `first` on that is free now, for a server that opens it by itself."""
    with listen(HOST, first, attempts) as found:
        return int(found.getsockname()[1])
