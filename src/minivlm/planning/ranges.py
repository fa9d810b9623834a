"""Figures with a range: what is expected, how little and how much it may be, and why.

Sources of uncertainty are factors, independent of each other: the logarithms of their ends are added in
quadrature. Amounts of several stages are added end by end, as if all were off in the same direction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

RESAMPLES = 2000


@dataclass(frozen=True)
class Factor:
    """One source of uncertainty: `of` what, the factors of the lowest and the highest value, from where."""

    of: str
    low: float
    high: float
    source: str

    def fields(self) -> dict[str, Any]:
        """Its entry in an estimate."""
        return {"of": self.of, "low": self.low, "high": self.high, "from": self.source}


@dataclass(frozen=True)
class Range:
    """An expected value between two others."""

    expected: float
    low: float
    high: float

    def times(self, factor: float) -> Range:
        """The same in another unit."""
        return Range(factor * self.expected, factor * self.low, factor * self.high)

    def fields(self) -> dict[str, float]:
        """Its entry in an estimate."""
        return {"expected": self.expected, "low": self.low, "high": self.high}


def with_factors(expected: float, factors: Iterable[Factor]) -> Range:
    """The range that independent factors leave around `expected`."""
    given = list(factors)
    low = math.sqrt(sum(math.log(factor.low) ** 2 for factor in given))
    high = math.sqrt(sum(math.log(factor.high) ** 2 for factor in given))
    return Range(expected, expected * math.exp(-low), expected * math.exp(high))


def total(ranges: Sequence[Range]) -> Range:
    """The sum, end by end."""
    return Range(*(math.fsum(getattr(each, end) for each in ranges) for end in ("expected", "low", "high")))


def rate(timings: Sequence[tuple[float, int]], seed: int = 0) -> Range:
    """Seconds an operation from (seconds, operations) of some steps: their sums' ratio, and the range that holds
    it in 95 of 100 resamples of the steps (a bootstrap)."""
    import numpy as np

    seconds, flops = (np.array(column, dtype=np.float64) for column in zip(*timings, strict=True))
    chosen = np.random.default_rng(seed).integers(0, len(seconds), (RESAMPLES, len(seconds)))
    ratios = seconds[chosen].sum(axis=1) / flops[chosen].sum(axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return Range(float(seconds.sum() / flops.sum()), float(low), float(high))
