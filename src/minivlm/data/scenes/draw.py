"""A scene as pixels: `render` gives the picture, `encode` its JPEG bytes; both depend on their arguments alone."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from minivlm.data.scenes.background import Stage
from minivlm.data.scenes.palette import tones
from minivlm.data.scenes.pen import Pen
from minivlm.data.scenes.shapes_ground import GROUND_SHAPES
from minivlm.data.scenes.shapes_sky import SKY_SHAPES
from minivlm.data.scenes.world import KINDS, Item, Scene

SHAPES = {**SKY_SHAPES, **GROUND_SHAPES}
_SUPERSAMPLING = 3


def render(scene: Scene, size: int) -> Image.Image:
    """The scene as an RGB picture of `size` x `size` pixels."""
    stage = Stage(scene, size * _SUPERSAMPLING)
    stage.sky()
    behind = [i for i in scene.items if _zone(scene, i) == "horizon"]
    for item in behind:
        _draw_item(stage, item)
    stage.ground()
    front = [i for i in scene.items if _zone(scene, i) != "horizon"]
    front.sort(key=lambda i: (_zone(scene, i) != "sky", i.box(_kind(scene, i))[3]))
    for item in front:
        _draw_shadow(stage, item)
    for item in front:
        _draw_item(stage, item)
    stage.weather()
    picture = stage.image.reduce(_SUPERSAMPLING)
    return _add_grain(picture, stage.rng, 1.0)


def encode(picture: Image.Image, quality: int) -> bytes:
    """JPEG bytes without any metadata; full colour resolution, because colour is what the captions speak of."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _kind(scene: Scene, item: Item) -> str:
    kind = scene.groups[item.group].kind
    assert kind is not None
    return kind


def _zone(scene: Scene, item: Item) -> str:
    return KINDS[_kind(scene, item)].zone


def _draw_item(stage: Stage, item: Item) -> None:
    scene, c = stage.scene, stage.canvas
    colour = scene.groups[item.group].colour
    assert colour is not None
    shade = 2 * scene.items_of(item.group)[0].variant - 1  # things of a group are of one paint
    pen = Pen(
        stage.draw,
        (item.x * c, item.y * c),
        item.size * c,
        flip=item.flip,
        variant=item.variant,
        tones=tones(colour, scene.sky, scene.exposure, shade),
        light=stage.light,
        exposure=scene.exposure,
        stroke=c / 200,
    )
    SHAPES[_kind(scene, item)](pen)


def _draw_shadow(stage: Stage, item: Item) -> None:
    """A soft patch on the ground, or the broken mirror image of a hull and sail on water."""
    scene, c = stage.scene, stage.canvas
    zone = _zone(scene, item)
    if zone == "sky":
        return
    left, _, right, bottom = item.box(_kind(scene, item))
    middle, half = (left + right) / 2 * c, (right - left) / 2 * c
    y = (bottom - 0.004) * c
    opacity = round(stage.light.shadow * 255 / 3)
    narrow = 0.6 if _kind(scene, item) in ("tree", "flower", "umbrella") else 1.0
    for grow in (1.15, 0.95, 0.72):
        across, down = half * grow * narrow, 0.016 * c * grow
        stage.draw.ellipse((middle - across, y - down, middle + across, y + down), fill=(20, 24, 40, opacity))


def _add_grain(picture: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    """Sensor noise: keeps gradients from banding and a tower from relying on flat colour."""
    pixels = np.asarray(picture).astype(np.int16)
    grain = rng.integers(-3, 4, pixels.shape[:2], dtype=np.int8)[:, :, None]
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))
