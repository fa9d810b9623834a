"""Numbers in a tokenizer.json that no memory holds.

The tokenizers library makes tables as long as the highest id, and pads as far as it is told: where the memory for
it is not to be had it ends the process, and no error can be caught.
"""

from __future__ import annotations

import json
from typing import Any

from minivlm.errors import UserError

HIGHEST = 10_000_000  # as base.tokenizer.vocabulary may be


def check_numbers(content: str | bytes, name: str) -> None:
    """UserError, about `name`, unless `content` is JSON in which every whole number is at most HIGHEST."""
    try:
        waiting: list[Any] = [json.loads(content)]
    except (ValueError, RecursionError):
        raise UserError(f"{name}: not a tokenizer: not JSON") from None
    while waiting:
        value = waiting.pop()
        if isinstance(value, int) and abs(value) > HIGHEST:
            said = str(value)[:40]
            raise UserError(f"{name}: not a tokenizer: it says {said}, and no id or length is over {HIGHEST:,}")
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value
