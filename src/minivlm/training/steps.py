"""Rows → optimizer steps: which batches a training sees, in which order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, overload

from minivlm.data.batch_plan import Plan, plan_batches
from minivlm.data.batches import Batch
from minivlm.training.distributed import Processes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Rows = npt.NDArray[np.integer]

_KEPT = 2  # epochs: a loader reads ahead into the next one while the steps of this one are taken


def plan_steps(
    rows: Rows, lengths: Rows, *, batch_tokens: int, accumulation: int, epochs: float, seed: int
) -> Steps:
    """The micro-batches, as row indices, of every step of a training over `rows`, whose lengths are `lengths`.

    An epoch is every row once, in an order of its own; its last step may hold fewer than `accumulation`
    micro-batches. Of a part of an epoch the steps are rounded down; there is one step at least.
    """
    plans = _Epochs(rows, lengths, batch_tokens, seed)
    taken: list[_Epoch] = []
    for epoch in range(math.ceil(epochs)):
        batches = len(plans[epoch])
        share = min(1.0, epochs - epoch)
        # A share like 0.1 * 3 must not lose a step to its last bit.
        steps = math.floor(share * math.ceil(batches / accumulation) + 1e-9)
        if not steps and not taken:
            steps = min(1, batches)
        taken.append(_Epoch(steps, min(batches, steps * accumulation)))
    return Steps(plans, tuple(taken), accumulation, 0, sum(epoch.steps for epoch in taken))


@dataclass(frozen=True)
class _Epoch:
    """What is taken of an epoch."""

    steps: int
    batches: int


class _Epochs:
    """The plan of each epoch, made when it is reached; the last two are kept."""

    def __init__(self, rows: Rows, lengths: Rows, batch_tokens: int, seed: int) -> None:
        self._rows, self._lengths, self._batch_tokens, self._seed = rows, lengths, batch_tokens, seed
        self._kept: dict[int, Plan] = {}

    def __getitem__(self, epoch: int) -> Plan:
        if epoch not in self._kept:
            while len(self._kept) >= _KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[epoch] = plan_batches(self._lengths, self._batch_tokens, self._seed, epoch).of(self._rows)
        return self._kept[epoch]


@dataclass(frozen=True)
class Steps(Sequence["Sequence[Rows]"]):
    """The steps of a training, each a list of micro-batches; a slice, or one rank's share, costs nothing.

    Memory is that of two epochs' plans, 4 bytes a row each, however many there are.
    """

    _plans: _Epochs
    _epochs: tuple[_Epoch, ...]
    _accumulation: int
    _start: int
    _stop: int
    _rank: int = field(default=0, kw_only=True)
    _world: int = field(default=1, kw_only=True)

    def __len__(self) -> int:
        return self._stop - self._start

    @overload
    def __getitem__(self, i: int) -> Sequence[Rows]: ...

    @overload
    def __getitem__(self, i: slice) -> Steps: ...

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            first, last, stride = i.indices(len(self))
            if stride != 1:
                raise ValueError("steps are sliced one by one")
            return replace(self, _start=self._start + first, _stop=self._start + max(first, last))
        i = range(len(self))[i]
        return next(iter(self[i : i + 1]))

    def __iter__(self) -> Iterator[Sequence[Rows]]:
        for epoch, first, last in self._parts():
            plan, size = self._plans[epoch], self._accumulation
            for step in range(first, last):
                whole = list(plan[step * size : min((step + 1) * size, len(plan))])
                yield Processes(self._rank, self._world).share(whole)

    def of_rank(self, rank: int, world: int) -> Steps:
        """The same steps with the micro-batches `rank`, `rank` + `world` … of each; see `Processes.share`."""
        return replace(self, _rank=rank, _world=world)

    @property
    def batches(self) -> Flat:
        """All micro-batches, one after another: what a loader is given."""
        return Flat(self)

    def _parts(self) -> Iterator[tuple[int, int, int]]:
        """(epoch, its first step, the one after its last) of what these steps take of each epoch."""
        before = 0
        for number, epoch in enumerate(self._epochs):
            first, last = max(self._start - before, 0), min(self._stop - before, epoch.steps)
            if first < last:
                yield number, first, last
            before += epoch.steps

    def _micro_batches(self) -> int:
        size = self._accumulation
        return sum(
            math.ceil(min(size, self._epochs[epoch].batches - step * size) / self._world)
            for epoch, first, last in self._parts()
            for step in range(first, last)
        )


@dataclass(frozen=True)
class Flat:
    """The micro-batches of steps in one line."""

    steps: Steps

    def __len__(self) -> int:
        return self.steps._micro_batches()

    def __iter__(self) -> Iterator[Rows]:
        return itertools.chain.from_iterable(self.steps)


def regroup(batches: Iterable[Batch], steps: Iterable[Sequence[object]]) -> Iterator[list[Batch]]:
    """A stream of batches, cut into the steps that it was planned as."""
    stream = iter(batches)
    for step in steps:
        yield list(itertools.islice(stream, len(step)))
