"""What stands before the application: how many may come in, how much they may bring, and that nobody computes for
a client that has gone.

ASGI, so that a body is counted while it arrives and refused before it is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from minivlm.data.strict_json import shown
from minivlm.serving.errors import RequestError, stopping
from minivlm.serving.limits import Limits
from minivlm.serving.visit import CURRENT, Visit

LOG = logging.getLogger("minivlm.serving")
CHAT = "/v1/chat/completions"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Coroutine[Any, Any, None]]


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine and can be reached from no other."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


class GoneError(Exception):
    """The client has closed the connection."""


class Door:
    """An ASGI application in front of another one; it logs a line for each request."""

    def __init__(self, app: App, limits: Limits, paths: frozenset[str]) -> None:
        """`paths`: those that there are; the log names no others, because they can hold anything."""
        self._app, self._limits, self._paths = app, limits, paths
        self._closed: set[asyncio.Future[None]] = set()  # of each request that waits for its answer
        self.hosts: frozenset[str] | None = None
        """Names, besides those of this machine's loopback, that clients may call the server by; None: any."""
        self._places = threading.Semaphore(limits.inside)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = Visit()
        CURRENT.set(visit)

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                visit.status = message["status"]
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                visit.answered = True
            await send(message)

        try:
            self._check_host(scope)
            if scope["path"] == CHAT and scope["method"] == "POST":
                await self._chat(scope, receive, told)
            else:
                await self._app(scope, receive, told)
        except GoneError:
            visit.gone = True
        except RequestError as error:
            visit.refusal = error.code
            await _refuse(error, told)
        except asyncio.CancelledError:  # by uvicorn, which has no more time; it would log a traceback
            visit.refusal = stopping().code
            if visit.status is None:
                await _refuse(stopping(), told)
        finally:
            visit.over.set()
            path = scope["path"] if scope["path"] in self._paths else "(no such path)"
            LOG.info(visit.line(scope["method"], path))

    async def _chat(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Let a request in if there is room, with its body; GoneError when the client leaves before the end.

        Its place is free again when nothing of it is computed or waits for that, which can be after its end.
        """
        if not self._places.acquire(blocking=False):
            with contextlib.suppress(RequestError):  # read, not kept: a client listens when it has sent everything
                await self._body(receive, keep=False)
            said = f"{self._limits.inside} requests are being answered; come again"
            raise RequestError(429, said, code="rate_limit_exceeded")
        visit = CURRENT.get()
        try:
            await self._answer(await self._body(receive), scope, receive, send)
        finally:
            visit.over.set()
            if visit.job is None:
                self._places.release()
            else:
                visit.job.add_done_callback(lambda _: self._places.release())

    async def _answer(self, body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_disconnected(receive))
        closed = asyncio.get_running_loop().create_future()
        self._closed.add(closed)
        answer = asyncio.create_task(self._app(scope, _replay(body, gone), send))
        try:
            await asyncio.wait((answer, gone, closed), return_when=asyncio.FIRST_COMPLETED)
            visit = CURRENT.get()
            if gone.done() and not (answer.done() or visit.answered):
                raise GoneError
            if not answer.done() and visit.status is None:  # its first token may be long in coming
                raise stopping()
            await answer
        finally:
            self._closed.discard(closed)
            for task in (answer, gone):
                task.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)

    def close(self) -> None:
        """On the event loop: those who wait and were told nothing yet are told that the server stops."""
        for closed in self._closed:
            if not closed.done():
                closed.set_result(None)

    def _check_host(self, scope: MutableMapping[str, Any]) -> None:
        """RequestError for another name: a page can have its own lead here, and ask as itself (DNS rebinding)."""
        if self.hosts is None:
            return
        sent = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        try:
            name = urlsplit(f"//{sent}").hostname or ""
        except ValueError:  # half an IPv6 address
            name = ""
        if name not in self.hosts and not is_loopback(name):
            said = f"this server is not {shown(sent)}; ask it as 127.0.0.1 or localhost"
            raise RequestError(403, said, code="host_not_allowed")

    async def _body(self, receive: Receive, keep: bool = True) -> bytes:
        """The whole body; RequestError when it is too long, or too long in coming.

        One that is too long is read to its end all the same: a client that is answered while it sends may see a
        broken connection and no answer.
        """
        limits, size, chunks = self._limits, 0, []
        try:
            async with asyncio.timeout(limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise GoneError
                    size += len(message.get("body", b""))
                    if keep and size <= limits.body_bytes:
                        chunks.append(message.get("body", b""))
                    else:
                        chunks.clear()
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            said = f"the request did not arrive within {limits.body_seconds:g} s"
            raise RequestError(408, said, code="request_timeout") from None
        if size > limits.body_bytes:
            said = f"a request of {size:,} bytes, of at most {limits.body_bytes:,}; send smaller pictures"
            raise RequestError(413, said, code="request_too_large")
        return b"".join(chunks)


async def _disconnected(receive: Receive) -> None:
    """Until the client closes the connection; nothing else comes after a body."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _replay(body: bytes, gone: asyncio.Task[None]) -> Receive:
    """A `receive` that gives a body that was read already, and then the end of the connection."""
    waiting = [body]

    async def receive() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        await asyncio.shield(gone)
        return {"type": "http.disconnect"}

    return receive


async def _refuse(error: RequestError, send: Send) -> None:
    from fastapi.responses import JSONResponse

    response = JSONResponse(error.body(), error.status, error.headers() | {"Connection": "close"})
    await response({"type": "http"}, _nothing, send)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
