"""Shares of the pictures, chosen by hash: the same ones wherever they stand and whatever stands beside them.

Rows are chosen more than once, one choice after another: held out, kept for validation. Were it by the same bits
of the hash, what the first choice leaves would hold nothing for the second: each purpose has bits of its own.
"""

from __future__ import annotations

from enum import Enum


class Purpose(Enum):
    """What a share is taken for; the value is the first of the four bytes of a sha256 that choose it."""

    VALIDATION = 0  # tokenize and base alike: a picture is validated on in all stages or trained on in all
    TOKENIZER = 4  # the part of many texts that a tokenizer learns from
    HOLDOUT = 8


def place(digest: bytes, purpose: Purpose) -> float:
    """Where a sha256 lies in [0, 1) for this purpose: a share of all hashes, say 0.02, has places below it."""
    return int.from_bytes(digest[purpose.value : purpose.value + 4], "big") / 2**32


def is_chosen(digest: bytes, purpose: Purpose, share: float) -> bool:
    """Whether this hash is of the share taken for this purpose."""
    return place(digest, purpose) < share
