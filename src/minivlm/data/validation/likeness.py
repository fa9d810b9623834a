"""Pictures that look alike: a perceptual hash of 64 bits, and the nearest of many hashes.

The hash is pHash's DCT hash (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010),
with the mean of areas in the place of a mean filter of 7 x 7 pixels:

1. the picture upright and as luma, Y = 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601, Pillow's mode "L");
2. resized to 32 x 32 pixels, each the mean of the area that it stands for;
3. the discrete cosine transform (type II) of rows and columns; of its coefficients C[u, v] those of the 8 x 8
   frequencies u, v = 1 ... 8: the lowest of each direction, which tell the mean of a row or column, are left out;
4. a bit is 1 where a coefficient is over the median of the 64; row by row, the first bit the highest.

The cosines are whole numbers (times 2^13, rounded), so that a picture has the same hash on every machine. Half of
the bits are 1, whatever the picture; one without any structure has the hash 0 and is like no other.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

BITS = 64
MOST_BITS = 11  # a hash may differ in: two in each band, see `LikenessIndex`; over that pictures are not alike
NO_STRUCTURE = 0
_SIDE = 32
_KEPT = 8
_SCALE = 1 << 13
_BAND = 16
_BLOCK = 1 << 22  # hashes compared at a time


def perceptual_hash(image: Image.Image) -> int:
    """The hash of a decoded picture of any mode that converts to RGB, 0 to 2^64 - 1."""
    import numpy as np
    from PIL import Image, ImageOps

    try:
        image = ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF beside sound pixels: nothing is turned
        image.load()
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    cosines = _cosines()
    found = cosines @ np.asarray(small, np.int64) @ cosines.T
    return int.from_bytes(np.packbits(found > np.median(found)).tobytes(), "big")


@cache
def _cosines() -> npt.NDArray[np.int64]:
    """Rows 1 to 8 of the DCT's matrix, (8, 32)."""
    import numpy as np

    frequency, place = np.arange(1, _KEPT + 1)[:, None], np.arange(_SIDE)
    return np.rint(_SCALE * np.cos((2 * place + 1) * frequency * np.pi / (2 * _SIDE))).astype(np.int64)


class LikenessIndex:
    """Hashes to be searched: the four bands of 16 bits of each, sorted.

    Two hashes that differ in at most d bits differ in at most d // 4 bits of some band (pigeonhole): only those
    that have such a band are compared, a few dozen of 600,000 (multi-index hashing, Norouzi, Punjani and Fleet,
    "Fast Search in Hamming Space with Multi-Index Hashing", 2012).
    """

    def __init__(self, hashes: npt.NDArray[np.uint64]) -> None:
        """`hashes` (N,), NO_STRUCTURE where there is none."""
        import numpy as np

        self._hashes, self._places = np.unique(hashes, return_index=True)
        if len(self._hashes) and self._hashes[0] == NO_STRUCTURE:
            self._hashes, self._places = self._hashes[1:], self._places[1:]
        self._bands: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]] = []
        for shift in range(0, BITS, _BAND):
            keys = _band(self._hashes, shift)
            order = np.argsort(keys, kind="stable")
            starts = np.searchsorted(keys[order], np.arange((1 << _BAND) + 1))
            self._bands.append((order.astype(np.int32), starts))

    def __len__(self) -> int:
        return len(self._hashes)

    def nearest(
        self, hashes: npt.NDArray[np.uint64], bits: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """For each hash the place of the nearest one in the index (the first, of several) and in how many bits
        they differ, (Q,) each; -1 where none is within `bits` (at most MOST_BITS)."""
        import numpy as np

        if not 0 <= bits <= MOST_BITS:
            raise ValueError(f"bits {bits}: 0 to {MOST_BITS}")
        # distance and place as one number, so that the smaller of two is the nearer, then the earlier
        unknown = np.int64(bits + 1) << 48
        best = np.full(len(hashes), unknown)
        asked = np.flatnonzero(hashes != NO_STRUCTURE)
        for (order, starts), shift in zip(self._bands, range(0, BITS, _BAND), strict=True):
            keys = _band(hashes[asked], shift)
            for mask in _masks(bits // (BITS // _BAND)):
                first, last = starts[keys ^ mask], starts[(keys ^ mask) + 1]
                self._compare(hashes, asked[last > first], first[last > first], last[last > first], order, best)
        is_near = best < unknown
        return np.where(is_near, best & ((1 << 48) - 1), -1), np.where(is_near, best >> 48, -1)

    def _compare(
        self,
        hashes: npt.NDArray[np.uint64],
        asked: npt.NDArray[np.int64],
        first: npt.NDArray[np.int64],
        last: npt.NDArray[np.int64],
        order: npt.NDArray[np.int32],
        best: npt.NDArray[np.int64],
    ) -> None:
        """Lower `best` by the candidates order[first:last] of each hash asked for, a block at a time."""
        import numpy as np

        ends = np.cumsum(last - first)
        start = 0
        while start < len(asked):
            before = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + _BLOCK, side="right")))
            counts = (last - first)[start:stop]
            offsets = np.cumsum(counts) - counts
            candidates = order[np.arange(counts.sum()) + np.repeat(first[start:stop] - offsets, counts)]
            differing = np.bitwise_count(self._hashes[candidates] ^ np.repeat(hashes[asked[start:stop]], counts))
            found = (differing.astype(np.int64) << 48) | self._places[candidates]
            least = np.minimum.reduceat(found, offsets)
            best[asked[start:stop]] = np.minimum(best[asked[start:stop]], least)
            start = stop


def _band(hashes: npt.NDArray[np.uint64], shift: int) -> npt.NDArray[np.int64]:
    """16 bits of each hash, those from `shift` upward."""
    import numpy as np

    return ((hashes >> np.uint64(shift)) & np.uint64((1 << _BAND) - 1)).astype(np.int64)


def _masks(most: int) -> list[int]:
    """Every number of 16 bits of which at most so many are 1."""
    ones = [1 << bit for bit in range(_BAND)]
    return [sum(chosen) for count in range(most + 1) for chosen in combinations(ones, count)]
