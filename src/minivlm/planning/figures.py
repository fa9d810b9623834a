"""Numbers of a plan: known, bounded or unknown, each with where it comes from; bytes with a text to read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Figure:
    """A count. `source`: where it comes from, or why it is unknown."""

    value: int | None
    source: str
    exact: bool = True

    def fields(self, name: str) -> dict[str, Any]:
        """Its entries in a plan: `name` or `name_at_most`, and `name_from`; or null and `name_why`."""
        if self.value is None:
            return {name: None, f"{name}_why": self.source}
        if self.exact:
            return {name: self.value, f"{name}_from": self.source}
        return {name: None, f"{name}_at_most": self.value, f"{name}_from": self.source}

    def map(self, function: Callable[[int], int], source: str = "", exact: bool = True) -> Figure:
        """`function` of the value, of the same source or `source`; unknown stays unknown, a bound a bound."""
        if self.value is None:
            return self
        return Figure(function(self.value), source or self.source, self.exact and exact)


def unknown(why: str) -> Figure:
    """A figure that cannot be known yet."""
    return Figure(None, why)


def total(figures: Mapping[str, Figure]) -> Figure:
    """The sum; unknown when a part is, for that part's reason, and a bound when a part is one."""
    for name, figure in figures.items():
        if figure.value is None:
            return unknown(f"{name}: {figure.source}")
    sources = dict.fromkeys(figure.source for figure in figures.values())
    exact = all(figure.exact for figure in figures.values())
    return Figure(sum(figure.value or 0 for figure in figures.values()), ", ".join(sources), exact)


def size(count: int) -> dict[str, Any]:
    """Bytes as {"bytes": 1288490189, "text": "1.2 GiB"}."""
    return {"bytes": count, "text": size_text(count)}


def size_text(count: int) -> str:
    """1288490189 → 1.2 GiB."""
    value, unit = float(count), _UNITS[0]
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{int(value)} B" if unit == "B" else f"{value:.1f} {unit}"


def memory(amounts: Mapping[str, int], there: int | None) -> dict[str, Any]:
    """The sum of some amounts of bytes, each as a text, and whether a machine that has `there` suffices."""
    entry = size(sum(amounts.values())) | {"parts": {name: size_text(count) for name, count in amounts.items()}}
    return entry if there is None else entry | {"machine": size(there), "enough": entry["bytes"] <= there}


def disk(needed: Figure, folder: Path, *, at_least: str = "") -> dict[str, Any]:
    """Bytes that a stage's outputs take at most, bytes free where `folder` will lie, whether that is enough.

    `at_least`: why it may become more. DVC keeps outputs in its cache and links or copies them to their place:
    where the file system has no reflinks and no cache.type is set they take that much twice, which `enough` counts
    with.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed.value is None:
        return {"needed": None, "needed_why": needed.source, "free": size(free)}
    amount = size(needed.value)
    entry = {"needed": None, "needed_at_least": amount, "needed_why": at_least} if at_least else {"needed": amount}
    return entry | {"needed_from": needed.source, "free": size(free), "enough": 2 * needed.value <= free}
