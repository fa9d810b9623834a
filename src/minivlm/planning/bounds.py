"""How many batches rows can make at most, before their lengths are known."""

import math

from minivlm.data.batch_plan import padded_length


def most_batches(rows: int, longest: int, batch_tokens: int) -> int:
    """Batches of an epoch at most, when no row has more than `longest` tokens.

    A batch holds batch_tokens // longest rows or more, `longest` rounded up as a batch's length is; but for the
    last of the epoch.
    """
    full = max(1, batch_tokens // padded_length(longest, max(longest, batch_tokens)))
    return math.ceil(rows / full) + 1
