"""Tokens as they come → pieces of text that later tokens will not change, up to the end or a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_UNFINISHED = "\ufffd"  # bytes of a character whose last ones are still to come


class TextPieces:
    """The text of an answer, handed out in pieces.

    All pieces together are the whole text without white space around it, cut before the first stop string. What
    may still change is held back: white space, half a character, and what may become a stop string.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        """`decode`: ids → text without special tokens."""
        self._decode, self._stop, self._said = decode, tuple(stop), ""
        self.stopped = False  # by a stop string

    def more(self, ids: Sequence[int]) -> str:
        """What can be said now and was not before; `ids`: all tokens so far."""
        text = self._up_to_a_stop(ids)
        if not self.stopped:
            text = text.rstrip(_UNFINISHED)
            text = text[: len(text) - self._held(text)]
        return self._rest(text.strip())

    def end(self, ids: Sequence[int]) -> str:
        """What is left to say when there are no more tokens than `ids`."""
        return self._rest(self._up_to_a_stop(ids).strip())

    def _up_to_a_stop(self, ids: Sequence[int]) -> str:
        text = self._decode(ids)
        found = [place for place in (text.find(stop) for stop in self._stop) if place >= 0]
        self.stopped = bool(found)
        return text[: min(found, default=len(text))]

    def _held(self, text: str) -> int:
        """The length of the longest end of `text` that a stop string begins with."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        sizes = range(min(longest, len(text)), 0, -1)
        return next((n for n in sizes if any(stop.startswith(text[-n:]) for stop in self._stop)), 0)

    def _rest(self, text: str) -> str:
        """What follows what was said; of a text that no longer begins so, what follows the same length of it."""
        rest = text[len(self._said) :]
        self._said = text if text.startswith(self._said) else self._said + rest
        return rest
