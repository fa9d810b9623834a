"""JSON text -> its value, as strictly as a data file deserves: nothing is guessed, and each fault has a name.

Python's own reader takes the last of two equal keys, reads NaN, and turns 1e999 into infinity. Here these are
faults, and so are brackets nested some thousand deep and whole numbers of thousands of digits, which it refuses in
ways of their own.
"""

import json
import math
from typing import Any

_MOST_DIGITS = 4300  # Python's own bound on reading a whole number
_SHOWN = 60  # characters of something foreign in a message


class JsonError(ValueError):
    """The text is not what it should be; the message says what it is instead, in one line."""


def loads(text: str) -> Any:
    """The value of a JSON text; JsonError names what is wrong with it."""
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_whole, parse_float=_number
        )
    except json.JSONDecodeError as error:
        raise JsonError(f"not JSON ({error.msg}, character {error.pos + 1:,})") from None
    except RecursionError:
        raise JsonError("not JSON (brackets nested too deep)") from None


def shown(text: str) -> str:
    """Foreign text in quotes for a message: one line, shortened, nothing in it that a terminal would obey."""
    short = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    return "'" + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short) + "'"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise JsonError(f"the key {shown(key)} stands twice in one object")
        found[key] = value
    return found


def _constant(name: str) -> Any:
    raise JsonError(f"not JSON ({name} is no number of JSON)")


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise JsonError(f"a number of {len(digits):,} digits")
    try:
        return int(digits)
    except ValueError:  # the interpreter was told to read fewer
        raise JsonError(f"a number of {len(digits):,} digits") from None


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise JsonError(f"a number out of range: {shown(digits)}")
    return value
