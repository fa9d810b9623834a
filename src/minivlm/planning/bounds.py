"""How many batches rows can make at most, before their lengths are known."""

import math

_WINDOW = 64  # batches that minivlm.data.batches sorts together: each window may end in a batch that is not full


def most_batches(rows: int, longest: int, batch_tokens: int) -> int:
    """Batches of an epoch at most, when no row has more than `longest` tokens.

    A batch holds q = batch_tokens // longest rows or more, but for the last of each window of rows that is sorted
    together; a window has 64 q rows at least.
    """
    full = max(1, batch_tokens // longest)
    return math.ceil(rows / full) + math.ceil(rows / (_WINDOW * full))
