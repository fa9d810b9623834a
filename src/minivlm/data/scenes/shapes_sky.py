"""Things that float above the horizon, and mountains behind it."""

from __future__ import annotations

from minivlm.data.scenes.palette import WOOD, mix
from minivlm.data.scenes.pen import Pen, curve

_BIRD_BODY = curve(
    (
        (0.40, 0.05),
        (0.33, -0.05),
        (0.22, -0.05),
        (0.08, 0.03),
        (-0.18, 0.06),
        (-0.48, 0.0),
        (-0.42, 0.10),
        (-0.48, 0.20),
        (-0.18, 0.22),
        (0.06, 0.27),
        (0.28, 0.20),
    )
)
# The near wing, its tip, the far wing.
_BIRD_WINGS = (
    # raised: a wide sail over the back
    (
        curve(
            (
                (0.14, 0.10),
                (0.08, -0.14),
                (-0.12, -0.37),
                (-0.30, -0.36),
                (-0.22, -0.14),
                (-0.18, 0.12),
                (0.0, 0.18),
            )
        ),
        ((-0.11, -0.36), (-0.30, -0.36), (-0.25, -0.22), (-0.07, -0.24)),
        curve(((0.20, 0.08), (0.24, -0.16), (0.16, -0.35), (0.04, -0.33), (0.0, -0.1), (0.04, 0.08))),
    ),
    # swept: lower and further back
    (
        curve(
            (
                (0.16, 0.10),
                (0.02, -0.12),
                (-0.24, -0.30),
                (-0.42, -0.26),
                (-0.28, -0.08),
                (-0.16, 0.12),
                (0.0, 0.18),
            )
        ),
        ((-0.23, -0.29), (-0.42, -0.26), (-0.33, -0.14), (-0.15, -0.2)),
        curve(((0.22, 0.08), (0.30, -0.16), (0.40, -0.33), (0.24, -0.34), (0.08, -0.12), (0.06, 0.08))),
    ),
)


def bird(pen: Pen) -> None:
    """A flying bird seen from the side, with raised or swept wings that have dark tips."""
    t = pen.tones
    near, tip, far = _BIRD_WINGS[int(pen.variant * 2)]
    pen.poly(far, t.dark, t.line)
    pen.poly(((0.37, 0.02), (0.50, 0.09), (0.36, 0.12)), pen.lit((245, 150, 30)), t.line)
    pen.poly(_BIRD_BODY, t.base, t.line)
    pen.poly(near, t.light if t.light != t.base else t.base, t.line)
    pen.poly(tip, pen.ink)
    pen.line(((-0.06, 0.06), (-0.2, -0.16)), t.dark)
    pen.disc(0.29, 0.04, 0.035, pen.ink)


_PUFFS = ((-0.30, 0.08, 0.19), (-0.06, -0.03, 0.25), (0.20, 0.03, 0.20), (0.36, 0.14, 0.13), (-0.38, 0.15, 0.11))


def cloud(pen: Pen) -> None:
    """Puffs over a flat base, lit from above."""
    t = pen.tones
    rim = pen.stroke / pen.unit
    for fill, shift, grow in ((t.line, 0.0, 0.0), (t.dark, 0.0, -rim), (t.base, -0.045, -rim - 0.02)):
        for u, v, radius in _PUFFS:
            pen.disc(u, v + shift, radius + grow, fill)
        pen.poly(((-0.38, 0.08), (0.36, 0.08), (0.36, 0.265 + grow + shift), (-0.38, 0.258 + grow + shift)), fill)
    for u, v, radius in _PUFFS[:3]:
        pen.oval(u - 0.02, v - 0.07, radius * 0.62, radius * 0.52, (*t.light, 150))


def balloon(pen: Pen) -> None:
    """A hot-air balloon with gores and a basket."""
    t = pen.tones
    rope = pen.lit(WOOD)
    for u in (-0.16, -0.06, 0.06, 0.16):
        pen.line(((u, 0.14), (u * 0.75, 0.34)), rope)
    envelope = curve(
        (
            (0.0, -0.49),
            (0.25, -0.42),
            (0.36, -0.2),
            (0.3, 0.0),
            (0.15, 0.18),
            (-0.15, 0.18),
            (-0.3, 0.0),
            (-0.36, -0.2),
            (-0.25, -0.42),
        )
    )
    pen.poly(envelope, t.base, None)
    gore = curve(
        (
            (0.0, -0.48),
            (0.17, -0.4),
            (0.245, -0.18),
            (0.2, 0.0),
            (0.1, 0.18),
            (-0.1, 0.18),
            (-0.2, 0.0),
            (-0.245, -0.18),
            (-0.17, -0.4),
        )
    )
    pen.poly(gore, mix(t.base, t.dark, 0.7))
    inner = curve(
        (
            (0.0, -0.48),
            (0.06, -0.4),
            (0.095, -0.18),
            (0.075, 0.0),
            (0.04, 0.18),
            (-0.04, 0.18),
            (-0.075, 0.0),
            (-0.095, -0.18),
            (-0.06, -0.4),
        )
    )
    pen.poly(inner, t.base)
    pen.oval(-0.16, -0.27, 0.07, 0.11, (*t.light, 190))
    pen.poly(envelope, (0, 0, 0, 0), t.line)
    pen.poly(((-0.15, 0.32), (0.15, 0.32), (0.12, 0.495), (-0.12, 0.495)), rope, pen.ink)


def kite(pen: Pen) -> None:
    """A diamond kite, leaning into the wind, with crossed spars and a long tail with bows."""
    t = pen.tones
    paper = pen.lit((250, 240, 214))
    top, right, low, left, cross = (-0.2, -0.49), (0.2, -0.33), (0.1, 0.2), (-0.35, -0.06), (-0.08, -0.2)
    pen.line((low, (0.14, 0.28), (0.1, 0.42), (0.18, 0.46), (0.34, 0.48)), pen.ink, 0.03)
    for u, v in ((0.14, 0.28), (0.1, 0.42)):
        pen.poly(((u, v), (u - 0.1, v - 0.055), (u - 0.1, v + 0.055)), paper, pen.ink)
        pen.poly(((u, v), (u + 0.1, v - 0.055), (u + 0.1, v + 0.055)), paper, pen.ink)
    pen.poly((top, right, low, left), t.base)
    pen.poly((top, cross, left), t.light)
    pen.poly((cross, right, low), t.dark)
    pen.line((top, low), paper)
    pen.line((left, right), paper)
    pen.poly((top, right, low, left), (0, 0, 0, 0), t.line)


def mountain(pen: Pen) -> None:
    """A peak with a lit and a shaded face; its foot disappears behind the ground."""
    t = pen.tones
    peak = -0.05 + 0.1 * pen.variant
    outline = (
        (peak, -0.325),
        (peak + 0.14, -0.17),
        (0.26, -0.06),
        (0.49, 0.33),
        (-0.49, 0.33),
        (-0.27, -0.04),
        (peak - 0.15, -0.16),
    )
    pen.poly(outline, t.base)
    ridge = ((peak, -0.325), (peak + 0.03, -0.14), (peak - 0.05, 0.02), (peak + 0.05, 0.17), (peak + 0.0, 0.33))
    pen.poly((*ridge, (0.49, 0.33), (0.26, -0.06), (peak + 0.14, -0.17)), t.dark)
    pen.poly(((peak, -0.325), (peak - 0.15, -0.16), (-0.27, -0.04), (-0.2, 0.02), (peak - 0.13, -0.07)), t.light)
    pen.poly(((-0.2, 0.33), (-0.12, 0.12), (-0.03, 0.33)), mix(t.base, t.dark, 0.5))
    pen.line((outline[4], outline[5], outline[6], outline[0], outline[1], outline[2], outline[3]), t.line)


SKY_SHAPES = {"bird": bird, "cloud": cloud, "balloon": balloon, "kite": kite, "mountain": mountain}
