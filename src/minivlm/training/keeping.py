"""What `fit` needs so that a training of one process can be stopped and gone on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

    `inputs` are what it follows from: where they have changed nothing is saved.
    """

    folder: Path
    minutes: float | None
    inputs: InputFiles | None = None

    def of_part(self, name: str) -> Keep:
        """That of one of several trainings."""
        return replace(self, folder=self.folder / name)

    def signals(self) -> AbstractContextManager[Callable[[], bool]]:
        """SIGTERM and Ctrl-C as a wish to stop, where there is a state to save."""
        return nullcontext(never) if self.minutes is None else StopSignals()


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

    with StopSignals() as stop:
        yield {"resume": resume, "on_save": save, "save_every": 60 * keep.minutes, "stop": stop}
    if stop():  # too late for the training to see
        raise KeyboardInterrupt


def steps_done(options: Mapping[str, Any]) -> int:
    """The steps that were taken before, of what `kept` gives."""
    resume = options["resume"]
    return resume.result.steps if resume else 0
