"""What is written where somebody types a picture token that is an ordinary one, as '@' is in MiniMind-V.

The chat template of an imported model writes it, and so does the encoding of rows: both have to agree.
"""

from collections.abc import Callable, Sequence

_GETA = "〓"  # the printer's mark for a character that is not at hand


def look_alike(token: str, encode: Callable[[str], Sequence[int]]) -> str:
    """The token with its first character in full width ('＠' for '@').

    Where that is no other token (not ASCII, or a tokenizer that turns the one into the other): a geta mark.
    `encode`: text → ids, without special tokens.
    """
    wide = chr(ord(token[0]) + 0xFEE0) + token[1:] if "!" <= token[0] <= "~" else token
    return _GETA if encode(token)[0] in encode(wide) else wide
