"""Scenes as pixels."""

import io
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from minivlm.data.scenes.draw import SHAPES, encode, render
from minivlm.data.scenes.layout import sample_scene
from minivlm.data.scenes.palette import LIGHTS, PAINT, tones
from minivlm.data.scenes.pen import Pen
from minivlm.data.scenes.world import KINDS, SKIES

SCENES = [sample_scene(5, "train", index) for index in range(25)]


def pixels(picture):
    return np.asarray(picture, np.float32)


def test_a_scene_has_one_picture():
    for scene in SCENES[:5]:
        assert encode(render(scene, 96), 90) == encode(render(scene, 96), 90)


def test_pictures_have_the_size_asked_for():
    picture = render(SCENES[0], 50)
    assert picture.size == (50, 50)
    assert picture.mode == "RGB"


@pytest.mark.parametrize("scene", SCENES, ids=lambda s: f"{s.sky}-{s.ground}")
def test_a_scene_has_the_same_composition_at_another_size(scene):
    # Compared at 16 x 16: grain, stars and blades of grass differ, everything that is told of does not.
    small, large = (pixels(render(scene, size).resize((16, 16), Image.Resampling.BOX)) for size in (96, 288))
    assert np.abs(small - large).mean() < 4
    assert np.abs(small - large).max() < 40


def test_light_and_texture_vary_between_pictures_of_the_same_truth():
    scene = SCENES[0]
    again = replace(scene, texture_seed=scene.texture_seed + 1)
    assert encode(render(scene, 96), 90) != encode(render(again, 96), 90)


@pytest.mark.parametrize("variant", [0.0, 0.999])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_thing_fills_its_box_and_does_not_leave_it(kind, flip, variant):
    unit, centre = 200, (150, 150)
    image = Image.new("RGB", (300, 300))
    colour = KINDS[kind].colours[0]
    pen = Pen(
        ImageDraw.Draw(image, "RGBA"),
        centre,
        unit,
        flip=flip,
        variant=variant,
        tones=tones(colour, "day"),
        light=LIGHTS["day"],
        exposure=1.0,
        stroke=3,
    )
    SHAPES[kind](pen)
    left, top, right, bottom = image.getbbox()
    half_width, half_height = unit * KINDS[kind].width / 2, unit * KINDS[kind].height / 2
    spill = 0.03 * unit
    assert 150 - half_width - spill <= left
    assert right <= 150 + half_width + spill
    assert 150 - half_height - spill <= top
    assert bottom <= 150 + half_height + spill
    assert (right - left) * (bottom - top) > 0.75 * 4 * half_width * half_height


@pytest.mark.parametrize("sky", SKIES)
def test_colours_stay_apart_in_every_light(sky):
    for one, other in combinations(PAINT, 2):
        distance = np.linalg.norm(np.subtract(tones(one, sky).base, tones(other, sky).base))
        assert distance > 80, (one, other)


@pytest.mark.parametrize("scene", SCENES, ids=lambda s: f"{s.sky}-{s.ground}")
def test_every_thing_can_be_told_from_what_is_behind_it(scene):
    picture = pixels(render(scene, 96))
    empty = pixels(render(replace(scene, items=()), 96))
    difference = np.abs(picture - empty).max(axis=2)
    for item in scene.items:
        left, top, right, bottom = (round(96 * side) for side in item.box(scene.groups[item.group].kind))
        assert (difference[top:bottom, left:right] > 25).mean() > 0.2, item


def test_jpeg_holds_no_metadata():
    data = encode(render(SCENES[0], 96), 90)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG"
        assert not image.getexif()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
