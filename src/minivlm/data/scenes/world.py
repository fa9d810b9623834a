"""The drawn world: its words, what belongs where, and the records that describe one picture.

A picture shows one sky over one ground and one to three groups of things; a group is a number of things of one
kind and one colour. Everything downstream (layout, drawing, captions, parser, metrics) speaks in the English keys
of this file; the Chinese words live in `lexicon`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SKIES: tuple[str, ...] = ("sunset", "day", "night", "overcast", "rain")
GROUNDS: tuple[str, ...] = ("sea", "beach", "grass", "snow", "wheat")
COLOURS: tuple[str, ...] = ("red", "yellow", "blue", "green", "white", "purple")
NUMBERS: tuple[int, ...] = (1, 2, 3, 4)

_FLOWER_COLOURS = tuple(colour for colour in COLOURS if colour != "green")  # the leaves are
LAND = ("beach", "grass", "snow", "wheat")


@dataclass(frozen=True)
class Kind:
    """What the world knows of one kind of thing.

    zone: "sky" (floats above the horizon), "horizon" (stands behind the ground), "water" (floats on visible water)
    or "ground" (stands on the ground). `width` and `height` are the sides of its box as shares of its size, the
    larger of the two being 1. `scale` makes kinds with little area, such as flowers, as readable as the others.
    `weight` evens out how often kinds are drawn, because the sea admits only half of them.
    """

    zone: str
    grounds: tuple[str, ...]
    colours: tuple[str, ...]
    width: float
    height: float
    scale: float = 1.0
    weight: float = 1.0


KINDS: dict[str, Kind] = {
    "bird": Kind("sky", GROUNDS, COLOURS, 1.0, 0.74, 1.02, 0.75),
    "cloud": Kind("sky", GROUNDS, COLOURS, 1.0, 0.58, 1.08, 0.75),
    "balloon": Kind("sky", GROUNDS, COLOURS, 0.74, 1.0, 1.05, 0.75),
    "kite": Kind("sky", GROUNDS, COLOURS, 0.72, 1.0, 1.08, 0.75),
    "mountain": Kind("horizon", GROUNDS, COLOURS, 1.0, 0.66, 1.1, 0.85),
    "boat": Kind("water", ("sea", "beach"), COLOURS, 0.84, 1.0, 1.0, 2.0),
    "house": Kind("ground", LAND, COLOURS, 0.96, 0.94, 1.0, 1.1),
    "tree": Kind("ground", LAND, COLOURS, 0.74, 1.0, 1.08, 1.1),
    "car": Kind("ground", LAND, COLOURS, 1.0, 0.54, 1.05, 1.1),
    "flower": Kind("ground", ("beach", "grass", "wheat"), _FLOWER_COLOURS, 0.64, 1.0, 1.08, 1.3),
    "umbrella": Kind("ground", ("beach", "grass", "snow"), COLOURS, 0.96, 0.96, 1.0, 1.3),
}

# Combinations kept out of training and of the held-out split: every word in them is common in training, so a model
# that describes them has composed what it knows. Changing a line changes every data set made from then on.
HELD_OUT_COLOURS: frozenset[tuple[str, str]] = frozenset(
    {
        ("bird", "blue"),
        ("balloon", "green"),
        ("boat", "yellow"),
        ("house", "red"),
        ("tree", "purple"),
        ("car", "white"),
        ("flower", "yellow"),
    }
)
HELD_OUT_PLACES: frozenset[tuple[str, str]] = frozenset(
    {("sunset", "snow"), ("night", "wheat"), ("rain", "beach")}
)


@dataclass(frozen=True)
class Group:
    """`number` things of one kind and one colour; None where a parsed text leaves the attribute open."""

    kind: str | None
    number: int | None
    colour: str | None


@dataclass(frozen=True)
class Truth:
    """What a picture shows, or what a text claims that it shows (then with None where the text is silent)."""

    sky: str | None
    ground: str | None
    groups: tuple[Group, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready mapping with the keys `sky`, `ground` and `groups`."""
        return {"sky": self.sky, "ground": self.ground, "groups": [asdict(group) for group in self.groups]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Truth:
        """The inverse of `to_json`; further keys, such as a scene's `layout`, are ignored."""
        groups = tuple(Group(g["kind"], g["number"], g["colour"]) for g in value["groups"])
        return cls(value["sky"], value["ground"], groups)


@dataclass(frozen=True)
class Item:
    """One drawn thing. `x`, `y`: centre of its box, `size`: its longer side, all as shares of the picture."""

    group: int
    x: float
    y: float
    size: float
    flip: bool
    variant: float  # in [0, 1): chooses between poses and proportions of the same kind

    def box(self, kind: str) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the thing, as shares of the picture."""
        half_width, half_height = self.size * KINDS[kind].width / 2, self.size * KINDS[kind].height / 2
        return self.x - half_width, self.y - half_height, self.x + half_width, self.y + half_height


@dataclass(frozen=True)
class Scene:
    """One picture, complete: drawing it needs nothing else, at any size."""

    sky: str
    ground: str
    groups: tuple[Group, ...]
    items: tuple[Item, ...]
    horizon: float  # height of the horizon at the middle of the picture, from the top
    slope: float  # change of the horizon's height from the left edge to the right: a slight tilt of the camera
    swell: float  # amplitude of the rolling of land at the horizon
    water: float  # where the water ends on a beach; equal to the horizon elsewhere
    sun_x: float
    sun_y: float
    exposure: float  # factor on all colours, close to 1
    texture_seed: int  # waves, blades of grass, stars, rain and noise follow from it

    @property
    def truth(self) -> Truth:
        return Truth(self.sky, self.ground, self.groups)

    def items_of(self, group: int) -> list[Item]:
        """The drawn things of one group, in the order in which they were placed."""
        return [item for item in self.items if item.group == group]

    def to_json(self) -> dict[str, Any]:
        """The truth plus `layout`, from which `from_json` restores the scene exactly."""
        layout = asdict(self)
        for key in ("sky", "ground", "groups"):
            del layout[key]
        return {**self.truth.to_json(), "layout": layout}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Scene:
        truth = Truth.from_json(value)
        layout = dict(value["layout"])
        items = tuple(Item(**item) for item in layout.pop("items"))
        return cls(sky=value["sky"], ground=value["ground"], groups=truth.groups, items=items, **layout)


def is_held_out(truth: Truth) -> bool:
    """True where the picture shows at least one combination that training never shows."""
    if (truth.sky, truth.ground) in HELD_OUT_PLACES:
        return True
    return any((group.kind, group.colour) in HELD_OUT_COLOURS for group in truth.groups)
