"""What a budget of tokens allows, before the lengths of rows are known: how many batches, which rows."""

import math

from minivlm.data.batch_plan import padded_length
from minivlm.errors import UserError


def check_budget(stage: str, batch_tokens: int, patches: int) -> None:
    """UserError when a batch has no room for a picture of so many patches: the stage would end at once."""
    if batch_tokens < patches + 2:
        raise UserError(
            f"{stage}.batch_tokens {batch_tokens:,} leaves no room beside a picture's {patches:,} tokens; raise it"
        )


def row_over_budget(stage: str, longest: int, batch_tokens: int) -> str:
    """What stops a stage whose rows may have `longest` tokens; "" when none is too long for it."""
    if longest <= batch_tokens:
        return ""
    return (
        f"rows may have tokenize.max_length {longest:,} tokens, "
        f"and one of more than {stage}.batch_tokens {batch_tokens:,} stops the stage"
    )


def most_batches(rows: int, longest: int, batch_tokens: int) -> int:
    """Batches of an epoch at most, when no row has more than `longest` tokens.

    A batch holds batch_tokens // longest rows or more, `longest` rounded up as a batch's length is; but for the
    last of the epoch.
    """
    full = max(1, batch_tokens // padded_length(longest, max(longest, batch_tokens)))
    return math.ceil(rows / full) + 1
