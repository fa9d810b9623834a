"""Draws in the coordinates of one thing: origin at the centre of its box, unit = its longer side, y down."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from minivlm.data.scenes.palette import INK, Light, Rgb, Tones, lit

Point = tuple[float, float]
Points = Sequence[Point]
Fill = tuple[int, ...]


class Pen:
    """Puts shapes of one thing on a canvas.

    draw: an ImageDraw in mode RGBA over the supersampled canvas; centre and unit in its pixels; `flip` mirrors the
    thing; `variant` in [0, 1) chooses among its poses; `stroke` is the width of outlines in pixels of the canvas.
    """

    def __init__(
        self,
        draw: Any,
        centre: Point,
        unit: float,
        *,
        flip: bool,
        variant: float,
        tones: Tones,
        light: Light,
        exposure: float,
        stroke: float,
    ) -> None:
        self.draw, self.unit, self.variant, self.tones, self.light = draw, unit, variant, tones, light
        self.x, self.y = centre
        self.direction = -unit if flip else unit
        self.exposure = exposure
        self.stroke = max(1, round(stroke))
        self.ink = self.lit(INK)

    def lit(self, colour: Rgb) -> Rgb:
        """A material's colour in the light of the scene."""
        return lit(colour, self.light.things, self.exposure)

    def _place(self, points: Points) -> list[Point]:
        x, y, across, down = self.x, self.y, self.direction, self.unit
        return [(x + across * u, y + down * v) for u, v in points]

    def poly(self, points: Points, fill: Fill, line: Fill | None = None) -> None:
        placed = self._place(points)
        self.draw.polygon(placed, fill=fill)
        if line is not None:
            self.draw.line([*placed, placed[0], placed[1]], fill=line, width=self.stroke, joint="curve")

    def disc(self, u: float, v: float, radius: float, fill: Fill, line: Fill | None = None) -> None:
        self.oval(u, v, radius, radius, fill, line)

    def oval(self, u: float, v: float, across: float, down: float, fill: Fill, line: Fill | None = None) -> None:
        x, y, across, down = (
            self.x + self.direction * u,
            self.y + self.unit * v,
            across * self.unit,
            down * self.unit,
        )
        self.draw.ellipse(
            (x - across, y - down, x + across, y + down), fill=fill, outline=line, width=self.stroke if line else 0
        )

    def line(self, points: Points, fill: Fill, width: float = 0.0) -> None:
        """A line; `width` is a share of the thing's size, 0 the width of outlines."""
        self.draw.line(
            self._place(points), fill=fill, width=max(self.stroke, round(width * self.unit)), joint="curve"
        )


@lru_cache(maxsize=256)
def curve(points: tuple[Point, ...], steps: int = 5) -> tuple[Point, ...]:
    """A closed smooth line through `points` (Catmull-Rom), `steps` points per section."""
    p = np.array(points)
    before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = (np.arange(steps) / steps)[None, :, None]
    a, b, c, d = (q[:, None, :] for q in (before, p, after, beyond))
    smooth = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return tuple((float(u), float(v)) for u, v in smooth.reshape(-1, 2))


@lru_cache(maxsize=256)
def arc(
    u: float, v: float, across: float, down: float, start: float, stop: float, steps: int = 14
) -> tuple[Point, ...]:
    """Points on an ellipse from angle `start` to `stop`, in degrees, 0 = right and 90 = down."""
    angles = np.radians(np.linspace(start, stop, steps))
    return tuple((float(u + across * np.cos(a)), float(v + down * np.sin(a))) for a in angles)
