"""Digests -> numbers, for as many as there may be: some twenty bytes each where a dictionary takes two hundred."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_WIDTH = 16  # bytes of a digest that are kept: two of 600,000 agree by chance once in 10^27 times
_RECENT = 1 << 16  # digests in the dictionary; then they are sorted in among the others


class DigestIndex:
    """Numbers digests in the order in which they come for the first time, from 0."""

    def __init__(self) -> None:
        self._recent: dict[bytes, int] = {}
        self._keys = np.empty(0, f"S{_WIDTH}")  # ascending
        self._numbers = np.empty(0, np.int32)

    def __len__(self) -> int:
        return len(self._numbers) + len(self._recent)

    def numbers(self, digests: Sequence[bytes]) -> list[int]:
        """The number of each digest (at least 16 bytes); those that are new get the next ones."""
        if not digests:
            return []
        # NumPy's bytes leave out zeros at the end, of both sides alike: what is equal stays equal.
        keys = np.array([digest[:_WIDTH] for digest in digests], f"S{_WIDTH}")
        places = np.minimum(np.searchsorted(self._keys, keys), max(len(self._keys) - 1, 0))
        is_old = self._keys[places] == keys if len(self._keys) else np.zeros(len(keys), bool)
        old = self._numbers[places] if len(self._keys) else places
        found = [
            number if known else self._recent.setdefault(digest[:_WIDTH], len(self))
            for digest, known, number in zip(digests, is_old.tolist(), old.tolist(), strict=True)
        ]
        if len(self._recent) >= _RECENT:
            self._sort_in()
        return found

    def _sort_in(self) -> None:
        keys = np.array(list(self._recent), self._keys.dtype)
        numbers = np.fromiter(self._recent.values(), np.int32, len(keys))
        order = np.argsort(keys)
        places = np.searchsorted(self._keys, keys[order])
        self._keys = np.insert(self._keys, places, keys[order])
        self._numbers = np.insert(self._numbers, places, numbers[order])
        self._recent.clear()
