"""Pictures exchanged so that none keeps its own: the baseline that every figure is held against."""

import random
from collections.abc import Hashable, Sequence

from minivlm.errors import UserError


def exchange(pictures: Sequence[Hashable], seed: int) -> list[int]:
    """For each picture the position of another one, as one random cycle over all of them (Sattolo 1986).

    `pictures` are distinct keys (image hashes), so that no picture gets a copy of itself. The same keys and
    seed give the same exchange on every machine. UserError with fewer than two pictures, ValueError when a key
    repeats.
    """
    if len(set(pictures)) != len(pictures):
        raise ValueError("pictures to exchange must be distinct")
    if len(pictures) < 2:
        raise UserError("evaluate needs at least two distinct held-out pictures to exchange them")
    order = list(range(len(pictures)))
    rng = random.Random(seed)
    for i in range(len(order) - 1, 0, -1):
        j = rng.randrange(i)  # j < i: a single cycle, hence nothing stays in its place
        order[i], order[j] = order[j], order[i]
    return order
