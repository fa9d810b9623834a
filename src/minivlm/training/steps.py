"""Rows → optimizer steps: which batches a training sees, in which order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from minivlm.data.batches import Batch, plan_batches

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Rows = npt.NDArray[np.integer]


def plan_steps(
    rows: Rows, lengths: Rows, *, batch_tokens: int, accumulation: int, epochs: float, seed: int
) -> list[list[Rows]]:
    """The micro-batches, as row indices, of every step of a training over `rows`, whose lengths are `lengths`.

    An epoch is every row once, in an order of its own; its last step may hold fewer than `accumulation`
    micro-batches. Of a part of an epoch the steps are rounded down; there is one step at least.
    """
    steps: list[list[Rows]] = []
    for epoch in range(math.ceil(epochs)):
        batches = [rows[batch] for batch in plan_batches(lengths, batch_tokens, seed, epoch)]
        whole = [batches[i : i + accumulation] for i in range(0, len(batches), accumulation)]
        share = min(1.0, epochs - epoch)
        # A share like 0.1 * 3 must not lose a step to its last bit.
        steps += whole[: math.floor(share * len(whole) + 1e-9)] or (whole[:1] if not steps else [])
    return steps


def regroup(batches: Iterable[Batch], steps: Sequence[Sequence[object]]) -> Iterator[list[Batch]]:
    """A stream of batches, cut into the steps that it was planned as."""
    stream = iter(batches)
    for step in steps:
        yield list(itertools.islice(stream, len(step)))
