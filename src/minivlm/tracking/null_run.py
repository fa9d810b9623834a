"""The silent twin of a run: what stages tell where the tracker is disabled or cannot write."""

from __future__ import annotations

from typing import Any

from minivlm.tracking.run import Run


def _nothing(*_: Any, **__: Any) -> None:
    """What every method of a NullRun does."""


class NullRun(Run):
    """The run of a disabled tracker: every method of a run, none with an effect."""

    id = ""  # none that another process could take up
    memory = None

    def __init__(self) -> None:
        self.figures, self.earlier_seconds = {}, 0.0
        self.parent, self.resumes, self.begun = None, False, 0.0


for _name in [name for name, method in vars(Run).items() if callable(method) and not name.startswith("__")]:
    setattr(NullRun, _name, staticmethod(_nothing))
