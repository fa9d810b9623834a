"""Charts as inline SVG text. Colours come from the page's style sheet by class name, so both themes work."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 520, 260
LEFT, RIGHT, TOP, BOTTOM = 42, 12, 12, 38  # margins in units of the viewBox


def line_chart(training: Points, validation: Points, kind: str, description: str) -> str:
    """Loss over steps: a line for training, dots on a dotted line for validation. `kind` is the colour class.

    Empty when there are no points. Points that are not finite are left out.
    """
    training, validation = _finite(training), _finite(validation)
    everything = [*training, *validation]
    if not everything:
        return ""
    right = max(x for x, _ in everything) or 1
    ticks = nice_ticks(min(y for _, y in everything), max(y for _, y in everything))
    low, high = ticks[0], ticks[-1]

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * value / right

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low))

    parts = []
    for tick in ticks:
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        )
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in nice_ticks(0, right, 5):
        if tick <= right:
            parts.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - 18}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 2}" text-anchor="middle">step</text>')
    for points, style in ((training, ""), (validation, " dotted")):
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        parts.append(f'<polyline class="line {kind}{style}" points="{path}"/>')
    for step, value in validation:
        label = f"<title>validation loss {value:.3f} at step {step:g}</title>"
        parts.append(f'<circle class="dot {kind}" cx="{x(step):.1f}" cy="{y(value):.1f}" r="4">{label}</circle>')
    return svg(WIDTH, HEIGHT, parts, description)


def bar_chart(groups: Mapping[str, Mapping[str, tuple[float, float]]], description: str) -> str:
    """Horizontal bars of shares: group → series → (share, share by guessing), both 0 to 1.

    The series' names are the colour classes. A tick marks what guessing earns.
    """
    left, right, bar, gap = 70, 46, 13, 16
    span = WIDTH - left - right
    parts: list[str] = []
    top = 2.0
    for name, series in groups.items():
        middle = top + len(series) * (bar + 3) / 2 + 3
        parts.append(
            f'<text class="name" x="{left - 10}" y="{middle:.1f}" text-anchor="end">{escape(name)}</text>'
        )
        for kind, (share, guess) in series.items():
            label = f"<title>{escape(kind)}: {share:.1%}, guessing {guess:.1%}</title>"
            parts.append(f'<rect class="track" x="{left}" y="{top}" width="{span}" height="{bar}" rx="2"/>')
            parts.append(
                f'<rect class="{escape(kind)}" x="{left}" y="{top}" width="{span * share:.1f}" height="{bar}" '
                f'rx="2">{label}</rect>'
            )
            tick = left + span * guess - 1
            parts.append(f'<rect class="tick" x="{tick:.1f}" y="{top - 1.5}" width="2.5" height="{bar + 3}"/>')
            parts.append(f'<text class="value" x="{left + span + 8}" y="{top + 11}">{share:.0%}</text>')
            top += bar + 3
        top += gap
    return svg(WIDTH, top - gap + 2, parts, description)


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values (steps of 1, 2 or 5 times a power of ten) that enclose low and high; at least two."""
    span = high - low or abs(high) or 1.0
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def _finite(points: Points) -> list[tuple[float, float]]:
    return [(a, b) for a, b in points if math.isfinite(a) and math.isfinite(b)]


def svg(width: float, height: float, parts: Sequence[str], description: str) -> str:
    """An SVG that screen readers announce by its description."""
    text = escape(description)
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{text}">{"".join(parts)}</svg>'
