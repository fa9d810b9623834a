"""What `fit` needs so that a training of one process can be stopped and gone on with."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.files import write_text
from minivlm.training.logbook import sync_points
from minivlm.training.states import StateFolder
from minivlm.training.stopping import StopSignals, never

if TYPE_CHECKING:
    from minivlm.training.inputs import InputFiles
    from minivlm.training.operations import StepCounter
    from minivlm.training.resume import TrainingState


@dataclass(frozen=True)
class Keep:
    """Where a training keeps its states, and the minutes between two of them; None: none is kept.

    `inputs` are what it follows from: where they have changed nothing is saved. `clock` notes when something was.
    """

    folder: Path
    minutes: float | None
    inputs: InputFiles | None = None
    clock: StageClock | None = None

    def of_part(self, name: str) -> Keep:
        """That of one of several trainings."""
        return replace(self, folder=self.folder / name)

    def signals(self) -> AbstractContextManager[Callable[[], bool]]:
        """SIGTERM and Ctrl-C as a wish to stop, where there is a state to save."""
        return nullcontext(never) if self.minutes is None else StopSignals()


class StageClock:
    """The seconds of a stage that goes on: those up to the last save of the process before are in a file.

    It may be sent to another process, which then notes the time of the whole stage, not its own.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._start = path, time.monotonic()  # the same clock in all processes of a machine
        self.earlier = _number(path)

    def note(self) -> None:
        """Write down what it has been until now: a state goes on from here."""
        with contextlib.suppress(OSError):  # a full disk, of which the next state's own writing tells
            write_text(self._path, f"{self.earlier + time.monotonic() - self._start}\n")


def _number(path: Path) -> float:
    """What is in a file; 0 without one, and of one that a disk has damaged: time is then missing in cost.json."""
    try:
        number = float(path.read_text())
    except (OSError, ValueError):
        return 0.0
    return number if 0 <= number < math.inf else 0.0


@contextmanager
def kept(keep: Keep | None, counter: StepCounter[Any]) -> Iterator[dict[str, Any]]:
    """`resume`, `on_save`, `save_every` and `stop` for `fit`, while signals only ask to stop.

    `counter` goes on from what was counted before. Without `keep`, options that change nothing. KeyboardInterrupt
    when a signal has come too late for `fit`.
    """
    if keep is None or keep.minutes is None:
        yield {"resume": None, "stop": never}
        return
    states = StateFolder(keep.folder)
    resume = states.newest()
    if resume:
        counter.go_on(resume.result)

    def save(state: TrainingState) -> None:
        counter.note(state.result)
        if keep.inputs:
            keep.inputs.check()
        sync_points(states.path)
        states.save(state)
        if keep.clock:
            keep.clock.note()

    with StopSignals() as stop:
        yield {"resume": resume, "on_save": save, "save_every": 60 * keep.minutes, "stop": stop}
    if stop():  # too late for the training to see
        raise KeyboardInterrupt


def steps_done(options: Mapping[str, Any]) -> int:
    """The steps that were taken before, of what `kept` gives."""
    resume = options["resume"]
    return resume.result.steps if resume else 0
