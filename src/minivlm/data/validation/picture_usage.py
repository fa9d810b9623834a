"""Which pictures the training splits train and validate on, and how many of the latter are plausible."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minivlm.data.store import TokenStore
from minivlm.data.validation.picture import MAX_PICTURES
from minivlm.data.validation.token_facts import picture_counts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_DEVIATIONS = 6  # standard deviations of a number drawn by hash: it lies beyond them once in 10^8 times


@dataclass(frozen=True)
class Range:
    """Whole numbers from `low` to `high`."""

    low: int
    high: int


class PictureUsage:
    """A mark or two for each of the `pictures` of the training splits' picture store."""

    def __init__(self, stores: Iterable[TokenStore], pictures: int) -> None:
        import numpy as np

        self.trained_on = np.zeros(pictures, bool)
        self._linked = np.zeros(pictures, bool)  # shown by a row with several, which has to be trained on
        for store in stores:
            several = np.flatnonzero(picture_counts(store) > 1)
            for marks, rows in ((self.trained_on, store.training_rows()), (self._linked, several)):
                marks[self._known(store.pictures_of(rows))] = True

    def _known(self, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Those that are in the picture store: that one is not is the fault of another check."""
        return ids[(ids >= 0) & (ids < len(self.trained_on))]

    def validated(self, store: TokenStore, fraction: float, left_out: int) -> tuple[int, Range]:
        """How many pictures, or rows of text alone, of a split are validated on, and how many are plausible.

        Each is with the chance `fraction`, by its hash, and of a split at least one. `left_out`: rows that are in
        no store; their pictures may have to be trained on, if they had several.
        """
        import numpy as np

        counts = picture_counts(store)
        shown = np.unique(self._known(store.pictures_of(np.flatnonzero(counts == 1))))
        text_rows = int(np.count_nonzero(counts == 0))
        rows = store.validation_rows()
        validated = len(np.unique(store.pictures_of(rows))) + int(np.count_nonzero(counts[rows] == 0))
        most = int(np.count_nonzero(~self._linked[shown])) + text_rows
        least = max(0, most - MAX_PICTURES * left_out)
        spread = _DEVIATIONS * math.sqrt(most * fraction * (1 - fraction))
        # The lowest of each split is validated on by all, whatever the fraction.
        low = max(min(least, 1), math.floor(least * fraction - spread))
        return validated, Range(low, math.ceil(most * fraction + spread) + 2)
