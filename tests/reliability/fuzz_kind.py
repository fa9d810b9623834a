"""A kind of input: how it is made, and which of the project's readers it goes through.

A kind is prepared once in a process; then each input is made from its own random numbers, in an empty folder, and
used as the commands use it. A use ends, or raises UserError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any


@dataclass(frozen=True)
class Kind:
    """`prepare(folder, count, seed)` gives what `make(prepared, random, number, folder)` starts from."""

    name: str
    share: int  # of a run, in thousandths
    prepare: Callable[[Path, int, int], Any]
    make: Callable[[Any, Random, int, Path], None]
    use: Callable[[Path], None]
    seconds: float = 20.0  # that an input may take


def nothing(folder: Path, count: int, seed: int) -> None:
    """What a kind is prepared with that needs nothing."""
    return None
