"""The learning rate of a step: linear warm-up, then half a cosine down to a share of the peak."""

import math


def learning_rate(step: int, total: int, peak: float, warmup_ratio: float, min_ratio: float) -> float:
    """The rate of optimizer step `step` of `total` (both count from 1).

    The warm-up takes `warmup_ratio` of the steps, rises linearly and reaches `peak` in its last step; the cosine
    (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts) ends at `min_ratio * peak` in the last step.
    ValueError for a step outside 1..total.
    """
    if not 1 <= step <= total:
        raise ValueError(f"step {step} of {total}")
    warmup = round(warmup_ratio * total)
    if step <= warmup:
        return peak * step / warmup
    # Without a warm-up the first step has the peak; with one, the step after it is the first below the peak.
    start = max(warmup, 1)
    progress = (step - start) / (total - start) if total > start else 0.0
    return peak * (min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * progress)))


def evenly_spaced(total: int, times: int) -> frozenset[int]:
    """`times` steps of 1..total, the last always among them; fewer when there are not as many steps."""
    return frozenset(max(1, round(total * i / times)) for i in range(1, times + 1))
