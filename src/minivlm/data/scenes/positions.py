"""Where the things of a group stand, in words that are true of the layout.

A side is named only where every thing of the group has its centre in, or within a twenty-fifth of the picture of,
that third; otherwise the text says only which zone the group is in.
"""

from __future__ import annotations

from minivlm.data.scenes.world import KINDS, Scene

LEFT_UNTIL = 0.37
RIGHT_FROM = 0.63
MIDDLE = (0.33, 0.67)
_SPREAD = 0.45  # from this distance between the outer centres things stand "from left to right"
_NEAR_FROM = 0.82  # lower edges of near things
_FAR_UNTIL = 0.72  # lower edges of far things

TOP_DOWN = ("sky", "horizon", "water", "ground")
SIDE_WORDS = {"left": "左边", "middle": "中间", "right": "右边"}


def zone(scene: Scene, group: int) -> str:
    """The zone of a group: "sky", "horizon", "water" or "ground"."""
    return KINDS[str(scene.groups[group].kind)].zone


def in_reading_order(scene: Scene) -> list[int]:
    """The groups as texts name them: from the sky down, and within a zone from left to right."""

    def key(group: int) -> tuple[int, float]:
        items = scene.items_of(group)
        return TOP_DOWN.index(zone(scene, group)), sum(item.x for item in items) / len(items)

    return sorted(range(len(scene.groups)), key=key)


def side(scene: Scene, group: int) -> str | None:
    """The third of the picture that holds the whole group: "left", "middle", "right" or None."""
    xs = [item.x for item in scene.items_of(group)]
    if max(xs) < LEFT_UNTIL:
        return "left"
    if min(xs) > RIGHT_FROM:
        return "right"
    return "middle" if min(xs) >= MIDDLE[0] and max(xs) <= MIDDLE[1] else None


def is_spread(scene: Scene, group: int) -> bool:
    """Whether at least three things reach from the left part of the picture to the right one."""
    xs = [item.x for item in scene.items_of(group)]
    return len(xs) >= 3 and max(xs) - min(xs) >= _SPREAD and min(xs) < 0.4 and max(xs) > 0.6


def depth(scene: Scene, group: int) -> str | None:
    """ "near" or "far" where all things of a group on the ground or the water are, else None."""
    if zone(scene, group) not in ("ground", "water"):
        return None
    bottoms = [item.box(str(scene.groups[group].kind))[3] for item in scene.items_of(group)]
    if min(bottoms) > _NEAR_FROM:
        return "near"
    return "far" if max(bottoms) < _FAR_UNTIL else None


def place(scene: Scene, group: int, surface: str, on: str) -> str:
    """The place of a group, such as 天空左边, 左边远处 or 草地上; `surface` and `on` name the ground or water."""
    where = side(scene, group)
    word = SIDE_WORDS[where] if where else ""
    if zone(scene, group) == "horizon":
        return f"{word}远处"
    if zone(scene, group) == "sky":
        return f"天空{word or '中'}"
    if word:
        return surface + word
    far = {"near": "近处的", "far": "远处的", None: ""}[depth(scene, group)]
    return far + surface + on


def surface_of(scene: Scene, group: int, ground: str) -> str:
    """What a group stands or floats on: the ground's noun, or on a beach the water for boats."""
    return "水面" if zone(scene, group) == "water" and scene.ground == "beach" else ground
