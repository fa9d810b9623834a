"""Sky and ground: gradients, sun, moon, stars and rain, water, sand, grass, snow and wheat.

Nothing here may look like one of the counted things: no cloud-like shapes in a sky, no single plants on the
ground. Canvas coordinates are pixels of the supersampled picture; scene coordinates are shares of it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from minivlm.data.scenes.palette import LIGHTS, Rgb, lit, mix
from minivlm.data.scenes.pen import arc
from minivlm.data.scenes.world import Scene

# near and far colour of each ground in plain daylight
_GROUND: dict[str, tuple[Rgb, Rgb]] = {
    "sea": ((86, 190, 214), (10, 92, 148)),
    "beach": ((247, 226, 172), (232, 196, 128)),
    "grass": ((176, 214, 98), (78, 158, 60)),
    "snow": ((252, 253, 255), (214, 228, 246)),
    "wheat": ((238, 190, 84), (206, 142, 40)),
}


@lru_cache(maxsize=16)
def _glow_mask(size: int, strength: float) -> Image.Image:
    """A round light that fades with the square of the distance, opaque by `strength` in the middle."""
    fading = [max(0, round((1 - v / 181) ** 2 * 255 * strength)) if v < 181 else 0 for v in range(256)]
    return Image.radial_gradient("L").resize((size, size), Image.Resampling.BILINEAR).point(fading)


class Stage:
    """A canvas with the scene's sky and ground on it, ready for the things."""

    def __init__(self, scene: Scene, canvas: int) -> None:
        self.scene, self.canvas = scene, canvas
        self.light = LIGHTS[scene.sky]
        self.rng = np.random.default_rng(scene.texture_seed)
        self.image = Image.new("RGB", (canvas, canvas))
        self.draw = ImageDraw.Draw(self.image, "RGBA")
        self.thin = max(1, round(canvas / 288))

    def horizon(self, x: float) -> float:
        """Height of the horizon at `x`, both as shares of the picture."""
        scene = self.scene
        return scene.horizon + scene.slope * (x - 0.5) + scene.swell * np.sin(7.0 * (x + scene.sun_x))

    def gradient(self, box: tuple[int, int], colours: tuple[Rgb, ...]) -> None:
        """Fill the rows from `box[0]` to `box[1]` with a vertical gradient."""
        column = np.array(colours, np.uint8)[:, None, :]
        height = max(1, box[1] - box[0])
        # A bilinear resize spreads the outer half samples flat; the crop keeps the part between the samples.
        n = len(colours)
        strip = Image.fromarray(column).resize((1, height), Image.Resampling.BILINEAR, (0, 0.5, 1, n - 0.5))
        self.image.paste(strip.resize((self.canvas, height), Image.Resampling.NEAREST), (0, box[0]))

    def below(self, line: list[tuple[float, float]], fill: tuple[int, ...]) -> None:
        """Fill everything under a line given in shares of the picture."""
        c = self.canvas
        self.draw.polygon([*((x * c, y * c) for x, y in line), (c, c), (0, c)], fill=fill)

    def sky(self) -> None:
        scene, c = self.scene, self.canvas
        bottom = int((scene.horizon + 0.06) * c)
        self.gradient((0, bottom), tuple(lit(colour, (1, 1, 1), scene.exposure) for colour in self.light.sky))
        {"day": self._sun, "sunset": self._sun, "night": self._stars, "overcast": self._deck, "rain": self._deck}[
            scene.sky
        ]()

    def _glow(self, radius: float, colour: Rgb, strength: float) -> None:
        c = self.canvas
        size = max(2, int(radius * 2 * c))
        mask = _glow_mask(size, strength)
        corner = (int(self.scene.sun_x * c) - size // 2, int(self.scene.sun_y * c) - size // 2)
        self.image.paste(Image.new("RGB", (size, size), colour), corner, mask)

    def _disc(self, x: float, y: float, radius: float, fill: tuple[int, ...]) -> None:
        c = self.canvas
        self.draw.ellipse(((x - radius) * c, (y - radius) * c, (x + radius) * c, (y + radius) * c), fill=fill)

    def _sun(self) -> None:
        scene = self.scene
        low = scene.sky == "sunset"
        self._glow(0.55 if low else 0.3, (255, 214, 120) if low else (255, 255, 240), 0.85)
        self._disc(scene.sun_x, scene.sun_y, 0.085 if low else 0.05, (255, 240, 190) if low else (255, 253, 232))

    def _stars(self) -> None:
        c, scene = self.canvas, self.scene
        self._glow(0.2, (150, 170, 215), 0.6)
        places = self.rng.random((46, 3))
        for x, y, glow in places.tolist():
            r = self.thin * (0.5 + glow)
            px, py = x * c, y * (scene.horizon - 0.04) * c
            self.draw.ellipse((px - r, py - r, px + r, py + r), fill=(255, 250, 225, int(110 + 140 * glow)))
        # The moon is a crescent, so that it cannot be taken for a white or yellow thing.
        x, y = scene.sun_x, scene.sun_y
        # the inner edge runs through the tips of the outer one, at -90 and 90 degrees before the turn
        outer = arc(0.0, 0.0, 0.05, 0.05, 90.0, 270.0)
        inner = arc(0.0, 0.0, 0.026, 0.05, 270.0, 90.0)
        turned = [(x + 0.9 * u - 0.44 * v + 0.014, y + 0.44 * u + 0.9 * v) for u, v in (*outer, *inner)]
        self.draw.polygon([(u * c, v * c) for u, v in turned], fill=(250, 243, 208))

    def _deck(self) -> None:
        """Bands of a closed cloud cover: long, soft and level, unlike the clouds that are counted."""
        c, scene = self.canvas, self.scene
        xs = np.linspace(0, 1, 13)
        dark = scene.sky == "rain"
        for y, phase, depth in self.rng.random((4, 3)).tolist():
            level = (y * 0.7) * scene.horizon
            wave = 0.012 * np.sin(5 * xs + 9 * phase)
            thick = 0.03 + 0.05 * depth
            line = [(x * c, (level + w) * c) for x, w in zip(xs, wave, strict=True)]
            back = [(x * c, (level + thick - w) * c) for x, w in zip(xs[::-1], wave[::-1], strict=True)]
            self.draw.polygon(line + back, fill=(40, 50, 66, 26) if dark else (255, 255, 255, 34))

    def ground(self) -> None:
        scene, c = self.scene, self.canvas
        far, near = (lit(colour, self.light.ground, scene.exposure) for colour in _GROUND[scene.ground])
        xs = [i / 12 for i in range(13)]
        line = [(x, self.horizon(x)) for x in xs]
        first = int(min(y for _, y in line) * c)
        sky = self.image.crop((0, first, c, min(c, first + int(0.12 * c))))
        self.gradient((first, c), (mix(far, self.light.haze, 0.3), far, mix(far, near, 0.6), near))
        if scene.slope or scene.swell:
            mask = Image.new("1", sky.size)
            ImageDraw.Draw(mask).polygon([(0, 0), *((x * c, y * c - first) for x, y in line), (c, 0)], fill=1)
            self.image.paste(sky, (0, first), mask)
        painters = {
            "sea": self._sea,
            "beach": self._beach,
            "grass": self._grass,
            "snow": self._snow,
            "wheat": self._wheat,
        }
        painters[scene.ground](far, near)

    def _waves(self, top: float, bottom: float, count: int, bright: Rgb) -> None:
        """Short level strokes that grow towards the viewer; under a low sun or a moon also a glittering path."""
        c, scene = self.canvas, self.scene
        for u, v, w in self.rng.random((count, 3)).tolist():
            depth = v * v
            y = top + 0.02 + (bottom - top - 0.03) * (0.15 * v + 0.85 * depth) + scene.slope * (u - 0.5)
            half = (0.012 + 0.035 * depth) * (0.6 + w)
            sag = (0.002 + 0.008 * depth) * c
            points = [((u - half) * c, y * c), (u * c, y * c - sag), ((u + half) * c, y * c)]
            self.draw.line(
                points, fill=(*bright, 80 + int(70 * w)), width=self.thin + int(self.thin * 1.4 * depth)
            )
        if scene.sky in ("sunset", "night"):
            gold = (255, 224, 150) if scene.sky == "sunset" else (214, 220, 240)
            for u, v, w in self.rng.random((30, 3)).tolist():
                y = top + 0.012 + (bottom - top - 0.02) * v
                half = (0.012 + 0.05 * v) * (0.4 + w)
                x = scene.sun_x + (u - 0.5) * (0.06 + 0.12 * v)
                self.draw.line(
                    [((x - half) * c, y * c), ((x + half) * c, y * c)],
                    fill=(*gold, 120),
                    width=self.thin + int(self.thin * v * 1.5),
                )

    def _sea(self, far: Rgb, near: Rgb) -> None:
        self._waves(self.scene.horizon, 1.0, 46, mix(far, (255, 255, 255), 0.55))

    def _beach(self, far: Rgb, near: Rgb) -> None:
        scene, c = self.scene, self.canvas
        shallow, deep = (lit(colour, self.light.ground, scene.exposure) for colour in _GROUND["sea"])
        xs = np.linspace(0, 1, 25)
        shore = (
            scene.water
            + scene.slope * (xs - 0.5)
            + 0.008 * np.sin(9 * xs + 20 * scene.sun_x)
            + 0.004 * np.sin(23 * xs)
        )
        top = [(float(x) * c, self.horizon(float(x)) * c) for x in xs]

        def strip(offset: float, fill: tuple[int, ...]) -> None:
            edge = [
                (x * c, (y + offset) * c) for x, y in zip(xs[::-1].tolist(), shore[::-1].tolist(), strict=True)
            ]
            self.draw.polygon(top + edge, fill=fill)

        strip(0.045, mix(near, (110, 84, 50), 0.25))
        strip(0.022, mix(shallow, (255, 255, 255), 0.65))
        strip(0.006, shallow)
        strip(-0.045, mix(shallow, deep, 0.45))
        self._waves(scene.horizon, scene.water - 0.02, 14, mix(shallow, (255, 255, 255), 0.55))
        for u, v, w in self.rng.random((40, 3)).tolist():
            y = scene.water + 0.07 + (0.93 - scene.water) * v
            r = self.thin * (0.6 + 0.9 * v)
            tone = (255, 246, 214, 110) if w > 0.5 else (*mix(near, (60, 40, 20), 0.4), 70)
            self.draw.ellipse((u * c - r, y * c - r * 0.6, u * c + r, y * c + r * 0.6), fill=tone)

    def _hills(self, colour: Rgb, opacity: int) -> None:
        for level, share in ((0.32, 0.6), (0.62, 1.0)):
            a, b = self.rng.random(2).tolist()
            h = self.scene.horizon
            line = [
                (i / 12, h + (1 - h) * level + 0.02 * np.sin(6 * i / 12 + 9 * a) + 0.03 * (b - 0.5) * (i / 6 - 1))
                for i in range(13)
            ]
            self.below(line, (*colour, int(opacity * share)))

    def _tufts(self, count: int, tones: list[Rgb], length: float, lean: float) -> None:
        """Blades in random places, drawn from far to near."""
        c = self.canvas
        places = self.rng.random((count, 4))
        for u, v, w, z in places[places[:, 1].argsort()].tolist():
            x = u
            top = self.horizon(x)
            y = top + 0.012 + (0.99 - top) * v * (0.35 + 0.65 * v)
            high = length * (0.3 + 0.9 * v) * (0.7 + 0.6 * w)
            tip = (x + lean * high * (z - 0.5)) * c
            self.draw.line(
                [(x * c, y * c), (tip, (y - high) * c)],
                fill=(*tones[int(z * len(tones))], 190),
                width=self.thin + int(self.thin * v),
            )

    def _grass(self, far: Rgb, near: Rgb) -> None:
        self._hills(mix(near, (30, 110, 40), 0.2), 70)
        self._tufts(90, [mix(near, (20, 70, 20), 0.35), mix(far, (255, 255, 200), 0.2), near], 0.03, 1.2)

    def _snow(self, far: Rgb, near: Rgb) -> None:
        self._hills(mix(near, (150, 178, 220), 0.35), 80)
        c, h = self.canvas, self.scene.horizon
        for u, v, w in self.rng.random((36, 3)).tolist():
            y = h + 0.04 + (0.95 - h) * v
            half = 0.01 + 0.03 * v * w
            self.draw.line(
                [((u - half) * c, y * c), (u * c, (y - 0.004) * c), ((u + half) * c, y * c)],
                fill=(*mix(near, (120, 150, 205), 0.45), 100),
                width=self.thin,
            )

    def _wheat(self, far: Rgb, near: Rgb) -> None:
        c, h = self.canvas, self.scene.horizon
        vanish = self.scene.sun_x
        for i in range(-7, 8):
            spread = i / 5
            x0, x1 = vanish + spread * 0.12, vanish + spread * 1.3
            self.draw.polygon(
                [(x0 * c, (h + 0.03) * c), ((x0 + 0.004) * c, (h + 0.03) * c), ((x1 + 0.06) * c, c), (x1 * c, c)],
                fill=(*mix(near, (110, 66, 10), 0.45), 60),
            )
        self._tufts(
            110,
            [mix(near, (120, 70, 10), 0.4), mix(far, (255, 244, 190), 0.45), mix(near, (255, 220, 110), 0.4)],
            0.05,
            0.7,
        )

    def weather(self) -> None:
        """Rain in front of everything: thin slanted streaks."""
        if self.scene.sky != "rain":
            return
        c = self.canvas
        for u, v, w in self.rng.random((60, 3)).tolist():
            high = 0.045 + 0.04 * w
            x, y = (u * 1.1 - 0.05) * c, (v * 1.05 - 0.06) * c
            self.draw.line(
                [(x, y), (x - high * 0.28 * c, y + high * c)],
                fill=(214, 226, 240, 90 + int(50 * w)),
                width=self.thin,
            )
