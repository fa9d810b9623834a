"""How many batches rows can make at most, before their lengths are known."""

import math

from minivlm.data.batch_plan import WINDOW, padded_length


def most_batches(rows: int, longest: int, batch_tokens: int) -> int:
    """Batches of an epoch at most, when no row has more than `longest` tokens.

    A batch holds q = batch_tokens // padded length of the longest row, or more, but for the last of each window of
    rows that is sorted together; a window has WINDOW q rows at least.
    """
    full = max(1, batch_tokens // padded_length(longest, max(longest, batch_tokens)))
    return math.ceil(rows / full) + math.ceil(rows / (WINDOW * full))
