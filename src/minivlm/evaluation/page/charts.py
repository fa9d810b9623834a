"""Charts as inline SVG text. Colours come from the page's style sheet by class name, so both themes work."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 520, 260
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 42  # margins in units of the viewBox


@dataclass(frozen=True)
class Curves:
    """The loss of a run: points (step, loss) of training and of validation."""

    training: Points
    validation: Points

    def finite(self) -> Curves:
        """Without the points that no chart can place."""
        return Curves(_finite(self.training), _finite(self.validation))


def line_chart(curves: Curves, kind: str, description: str, earlier: Curves | None = None) -> str:
    """Loss over steps: a line for training, dots on a dotted line for validation. `kind` is the colour class.

    `earlier`: another run, dashed and with squares. Empty when there are no points.
    """
    curves = curves.finite()
    runs = {kind: curves} | ({"earlier": earlier.finite()} if earlier else {})
    everything = [point for run in runs.values() for point in (*run.training, *run.validation)]
    if not (curves.training or curves.validation):
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
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:,g}</text>')
    for tick in nice_ticks(0, right, 5):
        if tick <= right:
            parts.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - 20}" text-anchor="middle">{tick:,g}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 2}" text-anchor="middle">step</text>')
    for style, run in reversed(runs.items()):  # this run lies above the other
        for points, dotted in ((run.training, ""), (run.validation, " dotted")):
            path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
            parts.append(f'<polyline class="line {style}{dotted}" points="{path}"/>')
        for step, value in run.validation:
            label = f"<title>validation loss {value:.3f} at step {step:,g}</title>"
            parts.append(_dot(style, x(step), y(value), label))
    return svg(WIDTH, HEIGHT, parts, description)


def _dot(style: str, x: float, y: float, label: str) -> str:
    if style == "earlier":
        return f'<rect class="dot {style}" x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7">{label}</rect>'
    return f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="4">{label}</circle>'


def bar_chart(groups: Mapping[str, Mapping[str, tuple[float, float]]], description: str) -> str:
    """Horizontal bars of shares: group → series → (share, share by guessing), both 0 to 1.

    The series' names are the colour classes. A tick marks what guessing earns.
    """
    parts: list[str] = []
    for name, series in groups.items():
        bars = "".join(
            f'<div class="bar" title="{escape(kind)}: {share:.1%}, guessing {guess:.1%}"><span>'
            f'<i class="{escape(kind)}" style="width:{share:.2%}"></i><b style="left:{guess:.2%}"></b></span>'
            f"<em>{share:.0%}</em></div>"
            for kind, (share, guess) in series.items()
        )
        parts.append(f"<div><strong>{escape(name)}</strong><div>{bars}</div></div>")
    return f'<div class="bars" role="img" aria-label="{escape(description)}">{"".join(parts)}</div>'


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
