"""One request from its arrival to its end: whether somebody still waits for it, and what the log says of it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class Visit:
    """Filled by whoever knows; written as one line when the request is over. Seconds of the monotonic clock.

    It holds nothing of what was asked or answered.
    """

    arrived: float = field(default_factory=time.monotonic)
    over: threading.Event = field(default_factory=threading.Event)  # nobody waits any more: stop computing
    job: Future[None] | None = None  # the computing, from its place in the queue to its end
    status: int | None = None
    answered: bool = False  # to the last byte
    gone: bool = False  # the client, before that
    refusal: str | None = None  # OpenAI's code for it
    pictures: int = 0
    prompt_tokens: int | None = None
    tokens: int = 0  # of the answer, its end token among them
    begun: float | None = None  # computing
    first: float | None = None  # token
    last: float | None = None
    reason: str | None = None  # that the answer ended for

    def line(self, method: str, path: str) -> str:
        """The request in one line of a log."""
        said = [str(self.status or "gone"), method, path]
        if self.refusal:
            said.append(self.refusal)
        if self.prompt_tokens is not None and self.begun is not None:
            pictures = "1 picture" if self.pictures == 1 else f"{self.pictures} pictures"
            said.append(f"{pictures}, {self.prompt_tokens} + {self.tokens} tokens")
            said.append(f"waited {self.begun - self.arrived:.3f} s")
        if self.first is not None:
            said.append(f"first token after {self.first - self.arrived:.3f} s")
        if (rate := self.tokens_per_second()) is not None:
            said.append(f"{rate:.0f} tokens/s")
        if self.prompt_tokens is not None:
            said.append("client gone" if self.gone else self.reason or "broken off")
        return "  ".join(said)

    def tokens_per_second(self) -> float | None:
        """Of the tokens after the first; None where there are none."""
        if self.first is None or self.last is None or self.last <= self.first:
            return None
        return (self.tokens - 1) / (self.last - self.first)


CURRENT: ContextVar[Visit] = ContextVar("minivlm_serving_visit")
