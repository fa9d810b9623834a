"""SIGTERM and Ctrl-C while a training runs: the step is finished and the state saved before it ends."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def never() -> bool:
    """Whether to stop, where nobody asks."""
    return False


class StopAsked(Exception):  # noqa: N818  (no error: it ends a validation)
    """A validation was left because the training is to stop."""


class StopSignals:
    """In a `with`, whether a signal has asked to stop; a second Ctrl-C is a KeyboardInterrupt, at once.

    SIGTERM may come after Ctrl-C without effect: launchers send both.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        return self.received is not None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere signals are not to be had
            self._before = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or signal.Signals(number)
