"""Colours of things and the light of each sky. An RGB colour is a tuple of three numbers from 0 to 255."""

from __future__ import annotations

from dataclasses import dataclass

Rgb = tuple[int, int, int]
Factors = tuple[float, float, float]

# Far apart in hue, so that a name can be told from 96 px in any light.
PAINT: dict[str, Rgb] = {
    "red": (226, 44, 42),
    "yellow": (252, 205, 24),
    "blue": (34, 98, 224),
    "green": (34, 158, 66),
    "white": (252, 252, 250),
    "purple": (148, 60, 200),
}
# How far a shade goes; dark yellow would be brown, and gray is no white.
_SHADE = {"red": 0.2, "yellow": 0.08, "blue": 0.22, "green": 0.22, "white": 0.06, "purple": 0.2}
WOOD: Rgb = (128, 82, 50)
SLATE: Rgb = (84, 78, 88)
INK: Rgb = (38, 40, 52)


@dataclass(frozen=True)
class Light:
    """The light of one sky: sky colours from top to horizon, and factors on things and on the ground."""

    sky: tuple[Rgb, ...]
    things: Factors
    ground: Factors
    haze: Rgb  # what distance fades to
    shadow: float  # opacity of cast shadows
    lamps: bool  # lit windows


LIGHTS: dict[str, Light] = {
    "day": Light(
        ((58, 142, 232), (104, 180, 244), (160, 214, 250), (214, 239, 252)),
        (1.0, 1.0, 1.0),
        (1.0, 1.0, 1.0),
        (206, 232, 248),
        0.26,
        False,
    ),
    "sunset": Light(
        ((84, 66, 138), (190, 92, 132), (244, 138, 96), (255, 200, 120)),
        (1.0, 0.93, 0.9),
        (0.96, 0.76, 0.72),
        (250, 178, 124),
        0.3,
        False,
    ),
    "night": Light(
        ((10, 16, 48), (18, 28, 74), (30, 46, 104), (56, 78, 138)),
        (0.86, 0.87, 0.97),
        (0.4, 0.42, 0.57),
        (48, 66, 122),
        0.34,
        True,
    ),
    "overcast": Light(
        ((150, 156, 164), (172, 177, 184), (192, 196, 200), (208, 210, 210)),
        (0.95, 0.95, 0.96),
        (0.8, 0.82, 0.83),
        (196, 200, 204),
        0.16,
        False,
    ),
    "rain": Light(
        ((66, 78, 96), (86, 100, 118), (106, 121, 138), (128, 142, 156)),
        (0.88, 0.9, 0.94),
        (0.6, 0.66, 0.71),
        (118, 132, 148),
        0.16,
        True,
    ),
}


def mix(a: Rgb, b: Rgb, share: float) -> Rgb:
    """`a` with a share of `b` in it."""
    return (
        round(a[0] + (b[0] - a[0]) * share),
        round(a[1] + (b[1] - a[1]) * share),
        round(a[2] + (b[2] - a[2]) * share),
    )


def lit(colour: Rgb, factors: Factors, exposure: float = 1.0) -> Rgb:
    """`colour` under a light, clipped to 255."""
    return (
        min(255, round(colour[0] * factors[0] * exposure)),
        min(255, round(colour[1] * factors[1] * exposure)),
        min(255, round(colour[2] * factors[2] * exposure)),
    )


@dataclass(frozen=True)
class Tones:
    """The shades one painted thing is drawn in; `line` is the outline that keeps it off its background."""

    base: Rgb
    light: Rgb
    dark: Rgb
    line: Rgb


def tones(name: str, sky: str, exposure: float = 1.0, shade: float = 0.0) -> Tones:
    """Shades of a named colour under a sky; `shade` from -1 to 1 makes the paint darker or lighter."""
    things = LIGHTS[sky].things
    paint = mix(PAINT[name], (255, 255, 255) if shade > 0 else (16, 12, 48), abs(shade) * _SHADE[name])
    if name == "white":
        shades = (paint, (255, 255, 255), (206, 214, 228), (96, 106, 130))
    elif name == "yellow":
        shades = (paint, (255, 234, 128), (236, 168, 12), (126, 78, 10))
    else:
        shades = (
            paint,
            mix(paint, (255, 255, 255), 0.3),
            mix(paint, (16, 12, 48), 0.3),
            # At night the rim catches the moon: a dark one would melt into the dark around it.
            mix(paint, (235, 235, 255), 0.45) if sky == "night" else mix(paint, (8, 6, 24), 0.62),
        )
    return Tones(*(lit(shade, things, exposure) for shade in shades))
