"""Which rows form a batch, and the round numbers that its shapes take.

Rows of like length share a batch, in an order that the seed fixes. Lengths and supervised positions are rounded up
a little: kernels are chosen, compiled and kept for each shape that occurs, so there should be few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from minivlm.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

WINDOW = 64  # batches whose rows are sorted together: more waste less padding and mix the rows less
_LEAST_STEP = 4  # tokens; rows of a picture with 196 tokens get multiples of 8, as matrix units like them
_STEPS = 16  # lengths between two powers of two: more waste less padding and make more shapes
_COUNT_STEP = 64  # positions

IGNORED = -100
"""The target of a position that was added for a round number; cross entropy leaves it out."""


def padded_length(length: int, most: int | None = None) -> int:
    """The length that a batch is padded to when its longest row has `length` tokens; never beyond `most`.

    Multiples of 4 up to 128, of 8 up to 256, of 16 up to 512, of 32 up to 1,024, and so on.
    """
    length = int(length)  # NumPy's have no bit_length
    step = max(_LEAST_STEP, (1 << length.bit_length() >> 1) // _STEPS)
    padded = -(-length // step) * step
    return padded if most is None else max(length, min(padded, most))


def padded_count(count: int) -> int:
    """The number of positions that logits are computed at for `count` supervised ones: the next multiple of 64."""
    return -(-count // _COUNT_STEP) * _COUNT_STEP


def next_tokens(
    input_ids: npt.NDArray[np.int64], is_supervised: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """(positions, targets, count) of rows (B, T): where logits are needed, as places in the flat (B * T).

    The first `count` positions come before a supervised token, their target. Those that follow, up to a round
    number, have the target IGNORED.
    """
    import numpy as np

    is_target = is_supervised.copy()
    is_target[:, 0] = False  # nothing comes before the first token
    found = np.flatnonzero(is_target)
    positions = np.zeros(padded_count(len(found)), np.int64)
    targets = np.full(len(positions), IGNORED, np.int64)
    positions[: len(found)] = found - 1
    targets[: len(found)] = input_ids.reshape(-1)[found]
    return positions, targets, len(found)


@dataclass(frozen=True)
class Plan(Sequence["npt.NDArray[np.int32]"]):
    """The batches of an epoch, each an array of row positions; two flat arrays, 4 bytes a row and 8 a batch."""

    order: npt.NDArray[np.int32]  # (rows,)
    bounds: npt.NDArray[np.int64]  # (batches + 1,), into `order`

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @overload
    def __getitem__(self, i: int) -> npt.NDArray[np.int32]: ...

    @overload
    def __getitem__(self, i: slice) -> Plan: ...

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            first, last, stride = i.indices(len(self))
            if stride != 1:
                raise ValueError("a plan is sliced in steps of one")
            return Plan(self.order, self.bounds[first : max(first, last) + 1])
        i = range(len(self))[i]
        return self.order[self.bounds[i] : self.bounds[i + 1]]

    def __iter__(self) -> Iterator[npt.NDArray[np.int32]]:
        return (self[i] for i in range(len(self)))

    def of(self, rows: npt.NDArray[np.integer]) -> Plan:
        """The same batches of `rows`, where this plan holds positions in them."""
        import numpy as np

        return Plan(rows[self.order].astype(np.int32), self.bounds)


def plan_batches(lengths: npt.NDArray[np.integer], batch_tokens: int, seed: int, epoch: int) -> Plan:
    """The batches of an epoch as positions in `lengths`; every row is in exactly one.

    Rows of like length share a batch, of which (rows x padded length) is at most `batch_tokens`: windows of
    shuffled rows are sorted by length and cut, then all batches are shuffled. What is left of a window, too little
    for a batch, joins the next one, so that only one batch of an epoch is not full. The same arguments give the
    same plan. UserError when a row alone is longer than the budget.
    """
    import numpy as np

    lengths = np.asarray(lengths)
    if len(lengths) == 0:
        return Plan(np.empty(0, np.int32), np.zeros(1, np.int64))
    if lengths.max() > batch_tokens:
        raise UserError(
            f"a row of {lengths.max():,} tokens does not fit into batch_tokens = {batch_tokens:,}; "
            "raise batch_tokens or lower tokenize.max_length"
        )
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths)).astype(np.int32)
    window = max(1, int(WINDOW * batch_tokens / lengths.mean()))
    batches: list[npt.NDArray[np.int32]] = []
    rest = order[:0]
    for start in range(0, len(order), window):
        rows = np.concatenate([rest, order[start : start + window]])
        rows = rows[np.argsort(-lengths[rows], kind="stable")]  # the longest first: it says how many fit
        is_last, first = start + window >= len(order), 0
        while first < len(rows):
            count = batch_tokens // padded_length(max(1, int(lengths[rows[first]])), batch_tokens)
            if first + count > len(rows) and not is_last:
                break
            batches.append(rows[first : first + count])
            first += count
        rest = rows[first:]
    shuffled = [batches[i] for i in random.permutation(len(batches))]
    bounds = np.concatenate([[0], np.cumsum([len(batch) for batch in shuffled])])
    return Plan(np.concatenate(shuffled), bounds.astype(np.int64))
