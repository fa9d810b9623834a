"""A model directory → a server that says where it is, answers until it is asked to stop, and says so."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from minivlm import ports
from minivlm.generation.loading import load_model
from minivlm.serving.answering import Answerer
from minivlm.serving.app import build_app
from minivlm.serving.door import is_loopback

PORT = 8000
_GRACE = 5.0  # seconds that answers have to come to an end by themselves when the server is to stop
_LAST = 1.0  # seconds after that for a next token


def serve(
    directory: Path,
    *,
    name: str | None,
    host: str,
    port: int | None,
    device: str,
    ready: Callable[[str, str, float], None],
) -> None:
    """Serve a LLaVA directory until SIGTERM or Ctrl-C.

    `port` None: the first free one from 8000 on. `ready` is told the model's name, the address, and the seconds
    that loading took, once requests are answered. UserError when the port is taken or the model is not sound.
    """
    with bind(host, port) as listening:
        began = time.monotonic()
        answerer = Answerer(*load_model(directory, device))
        seconds = time.monotonic() - began
        served, address = name or model_name(directory), _address(listening)
        _log_to_stderr()
        names = frozenset((host,)) if is_loopback(listening.getsockname()[0]) else None
        Server(answerer, served, lambda: ready(served, address, seconds), names).run([listening])


class Server(uvicorn.Server):
    """uvicorn's, which says when it is ready, and ends as it is asked to and not by the signal."""

    def __init__(
        self,
        answerer: Answerer,
        name: str,
        ready: Callable[[], None] = lambda: None,
        hosts: frozenset[str] | None = None,
    ) -> None:
        """`hosts`: names that clients may call it by besides loopback's; None: any."""
        self._door = build_app(answerer, name)
        self._door.hosts = hosts
        config = uvicorn.Config(
            self._door,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            limit_concurrency=answerer.limits.connections,
            timeout_graceful_shutdown=int(2 * _GRACE + _LAST),
        )
        super().__init__(config)
        self._ready, self._close = ready, answerer.closing.set

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and say so."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers end by themselves for a while, then at their next token, and refuse those without one."""
        loop = asyncio.get_running_loop()
        loop.call_later(_GRACE, self._close)
        loop.call_later(_GRACE + _LAST, self._door.close)
        await super().shutdown(sockets)
        if self.force_exit:  # by a second Ctrl-C: uvicorn then leaves the application waiting for its end
            await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's; it would raise the signal once more at the end, which for Ctrl-C shows a traceback."""
        super().handle_exit(sig, frame)
        self._captured_signals.clear()


def bind(host: str, port: int | None) -> socket.socket:
    """A socket that listens; UserError when the address cannot be had.

    Connections that come before the model is loaded wait for it.
    """
    change = "--host or --port"
    return ports.listen(host, PORT, change=change) if port is None else ports.listen(host, port, 1, change)


def model_name(directory: Path) -> str:
    """What clients call a model: `minivlm-sft` for artifacts/sft/model, otherwise after its folder."""
    place = directory.resolve()
    folder = place.parent.name if place.name == "model" else place.name
    return "minivlm-" + (re.sub(r"[^a-z0-9._-]+", "-", folder.lower()).strip("-") or "model")


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _log_to_stderr() -> None:
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
    for logger, level in (("minivlm.serving", logging.INFO), ("uvicorn.error", logging.ERROR)):
        logging.getLogger(logger).handlers = [lines]
        logging.getLogger(logger).setLevel(level)
        logging.getLogger(logger).propagate = False
