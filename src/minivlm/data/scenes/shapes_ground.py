"""Things that stand on the ground or float on the water."""

from __future__ import annotations

from minivlm.data.scenes.palette import SLATE, WOOD, mix
from minivlm.data.scenes.pen import Pen, arc, curve


def boat(pen: Pen) -> None:
    """A sailing boat: wooden hull, a large and a small coloured sail."""
    t = pen.tones
    hull = pen.lit(WOOD)
    pen.line(((0.0, -0.48), (0.0, 0.3)), pen.lit((92, 62, 44)), 0.03)
    main = curve(
        ((-0.03, -0.46), (-0.03, -0.44), (-0.03, 0.2), (-0.05, 0.24), (-0.36, 0.24), (-0.38, 0.22), (-0.2, -0.1)),
        4,
    )
    jib = curve(
        ((0.04, -0.38), (0.05, -0.36), (0.22, -0.04), (0.34, 0.2), (0.33, 0.22), (0.06, 0.2), (0.04, 0.18)), 4
    )
    pen.poly(main, t.base, t.line)
    pen.poly(((-0.04, -0.02), (-0.04, 0.22), (-0.33, 0.22), (-0.22, 0.12)), t.dark)
    pen.poly(jib, t.light, t.line)
    pen.poly(((-0.42, 0.29), (0.42, 0.29), (0.3, 0.46), (0.2, 0.49), (-0.24, 0.49), (-0.33, 0.45)), hull, pen.ink)
    pen.poly(((-0.4, 0.3), (0.4, 0.3), (0.37, 0.35), (-0.38, 0.35)), mix(hull, (255, 240, 210), 0.45))


def house(pen: Pen) -> None:
    """Painted walls under a slate roof, a door, a window and a chimney."""
    t = pen.tones
    roof = pen.lit(SLATE)
    frame = pen.lit((250, 246, 236))
    glass = (255, 220, 120) if pen.light.lamps else pen.lit((120, 170, 205))
    pen.poly(((0.18, -0.46), (0.3, -0.46), (0.3, -0.14), (0.18, -0.14)), roof, pen.ink)
    walls = ((-0.42, -0.16), (0.42, -0.16), (0.42, 0.47), (-0.42, 0.47))
    pen.poly(walls, t.base)
    pen.poly(((0.22, -0.16), (0.42, -0.16), (0.42, 0.47), (0.22, 0.47)), mix(t.base, t.dark, 0.55))
    pen.poly(walls, (0, 0, 0, 0), t.line)
    pen.poly(((0.0, -0.47), (0.48, -0.12), (-0.48, -0.12)), roof, pen.ink)
    pen.poly(((0.0, -0.44), (-0.44, -0.135), (-0.2, -0.135)), mix(roof, (255, 255, 255), 0.22))
    pen.poly(((0.05, 0.12), (0.23, 0.12), (0.23, 0.47), (0.05, 0.47)), pen.lit((104, 66, 44)), pen.ink)
    pen.poly(((-0.28, 0.06), (-0.08, 0.06), (-0.08, 0.26), (-0.28, 0.26)), frame)
    pen.poly(((-0.25, 0.09), (-0.11, 0.09), (-0.11, 0.23), (-0.25, 0.23)), glass)


_CROWN = ((-0.17, -0.02, 0.19), (0.17, -0.02, 0.19), (0.0, -0.24, 0.235), (-0.08, 0.02, 0.18), (0.1, 0.03, 0.17))


def tree(pen: Pen) -> None:
    """A trunk under a crown of leaves."""
    t = pen.tones
    trunk = pen.lit((112, 72, 44))
    pen.poly(((-0.07, 0.1), (0.07, 0.1), (0.06, 0.4), (0.12, 0.495), (-0.12, 0.495), (-0.06, 0.4)), trunk, pen.ink)
    rim = pen.stroke / pen.unit
    for fill, grow in ((t.line, 0.0), (t.dark, -rim)):
        for u, v, radius in _CROWN:
            pen.disc(u, v, radius + grow, fill)
    for u, v, radius in _CROWN:
        pen.disc(u - 0.015, v - 0.03, radius * 0.86 - rim, t.base)
    for u, v, radius in ((-0.17, -0.1, 0.07), (-0.05, -0.34, 0.09), (0.13, -0.1, 0.06)):
        pen.oval(u, v, radius, radius * 0.75, (*t.light, 200))


_CAR_BODY = curve(
    (
        (-0.48, 0.05),
        (-0.44, -0.02),
        (-0.31, -0.05),
        (-0.2, -0.22),
        (-0.1, -0.255),
        (0.1, -0.255),
        (0.2, -0.2),
        (0.3, -0.05),
        (0.44, -0.01),
        (0.48, 0.06),
        (0.48, 0.14),
        (0.42, 0.17),
        (-0.42, 0.17),
        (-0.48, 0.14),
    ),
    3,
)


def car(pen: Pen) -> None:
    """A small car from the side."""
    t = pen.tones
    glass = pen.lit((176, 216, 236)) if not pen.light.lamps else pen.lit((150, 180, 210))
    pen.poly(_CAR_BODY, t.base, t.line)
    pen.poly(((-0.47, 0.09), (0.47, 0.09), (0.42, 0.165), (-0.42, 0.165)), t.dark)
    pen.poly(((-0.23, -0.055), (-0.15, -0.185), (-0.03, -0.2), (-0.03, -0.055)), glass, t.line)
    pen.poly(((0.03, -0.055), (0.03, -0.2), (0.12, -0.19), (0.21, -0.055)), glass, t.line)
    pen.disc(0.44, 0.05, 0.04, (255, 236, 150))
    for u in (-0.27, 0.27):
        pen.disc(u, 0.155, 0.11, pen.ink)
        pen.disc(u, 0.155, 0.05, pen.lit((190, 194, 204)))


def flower(pen: Pen) -> None:
    """Five petals around a dark heart, on a stem with two leaves."""
    t = pen.tones
    stem = pen.lit((40, 128, 52))
    edge = pen.lit((18, 74, 34))
    pen.line(((0.0, -0.1), (0.02, 0.2), (0.0, 0.49)), edge, 0.075)
    pen.line(((0.0, -0.1), (0.02, 0.2), (0.0, 0.48)), stem, 0.04)
    pen.poly(curve(((0.01, 0.38), (0.08, 0.22), (0.28, 0.16), (0.2, 0.32))), stem, edge)
    pen.poly(curve(((0.01, 0.44), (-0.08, 0.28), (-0.28, 0.22), (-0.2, 0.38))), stem, edge)
    petals = arc(0.0, -0.19, 0.17, 0.17, -90.0 + 40 * pen.variant, 270.0 + 40 * pen.variant, 6)[:5]
    for u, v in petals:
        pen.disc(u, v, 0.135, t.line)
    for u, v in petals:
        pen.disc(u, v, 0.135 - pen.stroke / pen.unit, t.base)
    for u, v in petals:
        pen.disc(u * 0.96, v - 0.02, 0.055, (*t.light, 170))
    pen.disc(0.0, -0.19, 0.1, pen.lit((118, 70, 30)), pen.ink)


def umbrella(pen: Pen) -> None:
    """A beach umbrella, slightly tilted, with panels."""
    t = pen.tones
    pen.line(((0.0, -0.3), (0.06, 0.475)), pen.lit((70, 54, 44)), 0.055)
    pen.line(((0.0, -0.3), (0.06, 0.47)), pen.lit((222, 200, 164)), 0.025)
    dome = (
        *arc(0.0, 0.02, 0.47, 0.46, 180.0, 360.0),
        (0.4, 0.07),
        (0.31, 0.02),
        (0.23, 0.075),
        (0.155, 0.02),
        (0.08, 0.08),
        (0.0, 0.02),
        (-0.08, 0.08),
        (-0.155, 0.02),
        (-0.23, 0.075),
        (-0.31, 0.02),
        (-0.4, 0.07),
    )
    pen.poly(dome, t.base)
    for sign in (-1, 1):
        panel = curve(
            (
                (0.0, -0.44),
                (sign * 0.2, -0.32),
                (sign * 0.31, 0.02),
                (sign * 0.23, 0.06),
                (sign * 0.155, 0.02),
                (sign * 0.1, -0.25),
            ),
            4,
        )
        pen.poly(panel, t.dark)
    pen.oval(-0.26, -0.2, 0.05, 0.1, (*t.light, 200))
    pen.poly(dome, (0, 0, 0, 0), t.line)
    pen.disc(0.0, -0.45, 0.025, t.line)


GROUND_SHAPES = {"boat": boat, "house": house, "tree": tree, "car": car, "flower": flower, "umbrella": umbrella}
