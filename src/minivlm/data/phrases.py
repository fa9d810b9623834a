"""Phrases of captions: the runs of tokens that a picture can be taught to predict, all at once.

A caption says what a picture shows in short runs of tokens, 三只, 红色的房子, 日落. Which of the common ones
it holds is a target that needs no decoder and no order: classification by its words, as in SuperClass
(arXiv:2411.03313), here with runs instead of single tokens, because a number alone does not say of what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LONGEST = 3  # tokens
RAREST, COMMONEST = 0.003, 0.5  # shares of the captions that hold a phrase
_FACTOR = 0x9E3779B97F4A7C15  # odd, so that no token of a run is lost from its hash


@dataclass(frozen=True)
class Phrases:
    """`frequency` (K,): share of the captions that hold each phrase; `held`: for each caption, its phrases."""

    frequency: npt.NDArray[np.float64]
    held: list[npt.NDArray[np.int64]]

    @classmethod
    def find(cls, captions: Sequence[npt.NDArray[np.int64]], most: int) -> Phrases:
        """The `most` commonest phrases of token ids, those aside that too many captions or hardly any hold."""
        import numpy as np

        caption, run = _runs(captions)
        _, first, code = np.unique(run, return_index=True, return_inverse=True)
        once = np.unique(code * len(captions) + caption)  # a caption counts a phrase once
        code, caption = np.divmod(once, max(1, len(captions)))
        count = np.bincount(code, minlength=len(first))
        usual = (count >= max(2, RAREST * len(captions))) & (count <= COMMONEST * len(captions))
        chosen = np.flatnonzero(usual)
        chosen = chosen[np.lexsort((first[chosen], -count[chosen]))][:most]
        number = np.full(len(first), -1)
        number[chosen] = np.arange(len(chosen))
        phrase, caption = number[code][number[code] >= 0], caption[number[code] >= 0]
        order = np.lexsort((phrase, caption))
        ends = np.searchsorted(caption[order], np.arange(1, len(captions)))
        held = np.split(phrase[order], ends) if len(captions) else []
        return cls(count[chosen] / max(1, len(captions)), held)


def _runs(captions: Sequence[npt.NDArray[np.int64]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """Every run of one to LONGEST tokens: the caption that it is in, and its hash."""
    import numpy as np

    tokens = np.concatenate([*captions, np.zeros(0, np.int64)]).astype(np.uint64) + np.uint64(1)
    owner = np.repeat(np.arange(len(captions)), [len(each) for each in captions])
    run = np.zeros(len(tokens) + 1, np.uint64)
    owners, runs = [], []
    for length in range(1, LONGEST + 1):
        if length > len(tokens):
            break
        run = run[:-1] * np.uint64(_FACTOR) + tokens[length - 1 :]
        run ^= run >> np.uint64(29)
        inside = owner[: len(run)] == owner[length - 1 :]
        owners.append(owner[: len(run)][inside])
        runs.append(run[inside])
    if not runs:
        return np.zeros(0, np.int64), np.zeros(0, np.uint64)
    return np.concatenate(owners), np.concatenate(runs)
