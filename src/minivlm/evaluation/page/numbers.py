"""Numbers as people read them: thousands separators, units, durations, money."""

from __future__ import annotations

from html import escape
from typing import Any


def count(value: Any) -> str:
    """1234567 → 1,234,567; a fraction keeps two digits; a text is escaped."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"
    return escape(str(value))


def scaled(value: float) -> str:
    """1234567 → 1.23 M, with a space before the unit that follows."""
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g} "


def gibibytes(value: int) -> str:
    """Bytes in GiB."""
    return f"{value / (1 << 30):.2f} GiB"


def short(value: float) -> str:
    """Three digits: 0.183, 12.4, 4,321."""
    if value and abs(value) < 0.01:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """A time as people say it: 2 ms, 0.4 s, 48 s, 2 min 5 s, 37 min, 1 h 20 min."""
    if seconds < 0.1:
        return f"{1000 * seconds:.0f} ms" if seconds >= 0.001 else "under 1 ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 10:
        return f"{minutes} min {rest} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def money(amount: float | None, currency: str) -> str:
    """An amount with its currency; a small one keeps two digits that say something."""
    if amount is None:
        return "no price known"
    if 0 < amount < 0.001:
        return f"under 0.001 {escape(currency)}"
    return (
        f"{amount:.2f} {escape(currency)}" if amount >= 0.1 or amount == 0 else f"{amount:.2g} {escape(currency)}"
    )
