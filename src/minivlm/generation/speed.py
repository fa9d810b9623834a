"""How fast answers come: the time to the first token, and tokens a second after it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Meter:
    """A streamer of transformers' `generate`, which tells it of each step's tokens; sums over several batches.

    It starts when it is made; `start` when a batch is handed over, before its pictures are prepared; `finish` with
    the tokens of its answers.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self._waits: list[float] = []  # seconds to each batch's first tokens
        self._later, self._seconds = 0, 0.0  # tokens after the first ones, and the time that they took
        self.start()

    def start(self) -> None:
        """A batch begins."""
        self._started = self._last = time.perf_counter()
        self._first = 0.0

    def put(self, ids: torch.Tensor) -> None:
        """`generate`'s call: once with the prompt's ids, of which embeddings have none, then with every token."""
        if ids.numel():
            self._last = time.perf_counter()
            self._first = self._first or self._last

    def end(self) -> None:
        """`generate`'s last call."""

    def finish(self, tokens: int, answers: int = 1) -> None:
        """A batch has ended: `tokens` of its `answers`, padding after their ends not counted."""
        if not self._first:  # stopped before the first token
            return
        self.tokens += tokens
        self._waits.append(self._first - self._started)
        self._later += max(tokens - answers, 0)
        self._seconds += self._last - self._first

    @property
    def first_token_seconds(self) -> float | None:
        """From the hand-over to the first token, the mean over the batches; None before there was one."""
        return sum(self._waits) / len(self._waits) if self._waits else None

    @property
    def tokens_per_second(self) -> float | None:
        """Of the tokens after the first of each answer; None where there was no second one."""
        return self._later / self._seconds if self._later and self._seconds else None

    def shown(self) -> str:
        """For people: `first token 12 ms · 41 tokens · 310 tokens/s`; what was not measured is left out."""
        parts = []
        if self.first_token_seconds is not None:
            parts.append(f"first token {duration(self.first_token_seconds)}")
            parts.append(f"{self.tokens:,} token{'' if self.tokens == 1 else 's'}")
        if self.tokens_per_second is not None:
            parts.append(f"{self.tokens_per_second:,.0f} tokens/s")
        return " · ".join(parts)


def duration(seconds: float) -> str:
    """12 ms, 0.31 s, 4.2 s."""
    if seconds < 0.1:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
