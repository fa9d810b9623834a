"""Which scenes are drawn and where their things stand."""

import json
from collections import Counter
from itertools import combinations

import pytest

from minivlm.data.scenes.layout import MARGIN, sample_scene
from minivlm.data.scenes.world import (
    COLOURS,
    GROUNDS,
    HELD_OUT_COLOURS,
    HELD_OUT_PLACES,
    KINDS,
    NUMBERS,
    SKIES,
    Scene,
    is_held_out,
)

SEED = 3


@pytest.fixture(scope="module")
def scenes():
    return [sample_scene(SEED, "train", index) for index in range(500)]


@pytest.fixture(scope="module")
def compositional():
    return [sample_scene(SEED, "compositional", index) for index in range(300)]


def boxes(scene):
    return [(item.box(scene.groups[item.group].kind), scene.groups[item.group].kind) for item in scene.items]


def test_a_scene_follows_from_seed_split_and_index():
    assert sample_scene(1, "train", 7) == sample_scene(1, "train", 7)
    others = [sample_scene(2, "train", 7), sample_scene(1, "heldout", 7), sample_scene(1, "train", 8)]
    assert sample_scene(1, "train", 7) not in others


def test_every_value_of_every_attribute_occurs(scenes):
    groups = [group for scene in scenes for group in scene.groups]
    assert {scene.sky for scene in scenes} == set(SKIES)
    assert {scene.ground for scene in scenes} == set(GROUNDS)
    assert {group.kind for group in groups} == set(KINDS)
    assert {group.number for group in groups} == set(NUMBERS)
    assert {group.colour for group in groups} == set(COLOURS)


def test_no_kind_is_rare(scenes):
    counts = Counter(group.kind for scene in scenes for group in scene.groups)
    assert min(counts.values()) > 0.04 * sum(counts.values())


def test_two_kinds_or_more_are_seen_in_four_of_ten_pictures(scenes, compositional):
    for split in (scenes, compositional):
        assert sum(len(scene.groups) > 1 for scene in split) >= 0.4 * len(split)


def test_kinds_have_their_natural_colours_and_grounds(scenes, compositional):
    for scene in [*scenes, *compositional]:
        kinds = [group.kind for group in scene.groups]
        assert len(set(kinds)) == len(kinds)
        for group in scene.groups:
            assert group.colour in KINDS[group.kind].colours
            assert scene.ground in KINDS[group.kind].grounds


def test_held_out_combinations_are_absent_from_training(scenes):
    heldout = [sample_scene(SEED, "heldout", index) for index in range(200)]
    assert not any(is_held_out(scene.truth) for scene in [*scenes, *heldout])


def test_the_compositional_split_shows_every_held_out_combination_and_nothing_else(compositional):
    assert all(is_held_out(scene.truth) for scene in compositional)
    places = {(scene.sky, scene.ground) for scene in compositional}
    colours = {(group.kind, group.colour) for scene in compositional for group in scene.groups}
    assert places >= HELD_OUT_PLACES
    assert colours >= HELD_OUT_COLOURS


def test_each_part_of_a_held_out_combination_is_common_in_training(scenes):
    places = [(scene.sky, scene.ground) for scene in scenes]
    groups = [(group.kind, group.colour) for scene in scenes for group in scene.groups]
    for seen, pairs in ((places, HELD_OUT_PLACES), (groups, HELD_OUT_COLOURS)):
        for first, second in pairs:
            assert sum(first == a for a, _ in seen) > 0.03 * len(seen)
            assert sum(second == b for _, b in seen) > 0.03 * len(seen)


def test_as_many_things_are_placed_as_the_truth_says(scenes):
    for scene in scenes:
        for index, group in enumerate(scene.groups):
            assert len(scene.items_of(index)) == group.number


def test_nothing_is_cut_by_the_border(scenes, compositional):
    for scene in [*scenes, *compositional]:
        for (left, top, right, bottom), kind in boxes(scene):
            assert min(left, top, 1 - right, 1 - bottom) > MARGIN - 0.001, (kind, scene)


def test_no_two_things_overlap(scenes, compositional):
    for scene in [*scenes, *compositional]:
        for (a, _), (b, _) in combinations(boxes(scene), 2):
            assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1], scene


def test_things_stand_in_their_zone(scenes, compositional):
    for scene in [*scenes, *compositional]:
        for (left, _, right, bottom), kind in boxes(scene):
            horizon = scene.horizon + scene.slope * ((left + right) / 2 - 0.5)
            zone = KINDS[kind].zone
            if zone == "sky":
                assert bottom < horizon, kind
            elif zone == "ground":
                assert bottom > horizon + 0.05, kind
                assert scene.ground != "beach" or bottom > scene.water + 0.05, kind
            elif zone == "water":
                assert bottom > horizon, kind
                assert scene.ground != "beach" or bottom < scene.water, kind


def test_sun_and_moon_are_rarely_covered(scenes):
    lit = [scene for scene in scenes if scene.sky in ("sunset", "day", "night")]

    def covered(scene):
        return any(b[0] < scene.sun_x < b[2] and b[1] < scene.sun_y < b[3] for b, _ in boxes(scene))

    assert sum(map(covered, lit)) < 0.02 * len(lit)


def test_json_restores_the_very_same_scene(scenes):
    for scene in scenes[:50]:
        assert Scene.from_json(json.loads(json.dumps(scene.to_json()))) == scene
