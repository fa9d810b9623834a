"""From the thread that computes an answer to the event loop that sends it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import NamedTuple


class Begun(NamedTuple):
    """The prompt was accepted, and computing begins."""

    prompt_tokens: int


class Ended(NamedTuple):
    """The answer is complete: `stop` by itself or by a stop string, `length` by a limit."""

    reason: str
    tokens: int


Event = Begun | str | Ended | Exception  # str: a piece of the answer


class Listener:
    """The events of one answer: told by the thread, heard in order on the event loop that it is made on."""

    def __init__(self, over: threading.Event) -> None:
        """`over`: set when nobody waits for the answer any more."""
        self._loop, self._events = asyncio.get_running_loop(), asyncio.Queue[Event]()
        self._over = over
        self._ended: Ended | None = None

    def tell(self, event: Event) -> None:
        """From any thread; nothing happens when nobody listens."""
        if not self._over.is_set():  # the loop itself may be gone with them
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def begun(self) -> Begun:
        """The first event; raises what was told instead."""
        event = await self._next()
        assert isinstance(event, Begun)
        return event

    async def pieces(self) -> AsyncIterator[str]:
        """The pieces, those that wait already as one; raises what was told instead. Then `ended` is known."""
        while self._ended is None:
            waiting = [await self._next()]
            while not self._events.empty():
                waiting.append(await self._next())
            if text := "".join(event for event in waiting if isinstance(event, str)):
                yield text
            last = waiting[-1]
            self._ended = last if isinstance(last, Ended) else None

    @property
    def ended(self) -> Ended:
        """How the answer ended, once all its pieces were heard."""
        assert self._ended is not None
        return self._ended

    async def _next(self) -> Begun | str | Ended:
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        return event
