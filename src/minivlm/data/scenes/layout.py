"""Which scene a picture shows and where its things stand: a pure function of (seed, split, index).

A scene is drawn from its own random stream, so pictures can be made in any order by any number of processes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from minivlm.data.scenes.world import (
    COLOURS,
    GROUNDS,
    HELD_OUT_COLOURS,
    HELD_OUT_PLACES,
    KINDS,
    NUMBERS,
    SKIES,
    Group,
    Item,
    Scene,
    Truth,
    is_held_out,
)

MARGIN = 0.012  # nothing stands closer to the border than this share of the picture
CELLS = 4  # things stand in the cells of a loose lattice of this many rows and columns
MAX_PER_HALF = 6
NUMBER_SHARES = (0.4, 0.3, 0.2, 0.1)  # how often a group has one, two, three or four things
_GROUP_SHARES = (0.54, 0.37, 0.09)  # how often a picture shows one, two or three groups
_JITTER = 0.18  # how far a thing stands from the middle of its cell at most, as a share of the cell
_GAP = 0.008  # free space between boxes; slim things such as kites leave more
_SIZES = (0.205, 0.24)  # whatever their number: things do not shrink because there are more of them

Box = tuple[float, float, float, float]
Cell = tuple[int, int]  # row and column
_UPPER = ("sky", "horizon")  # the zones above the horizon


@dataclass(frozen=True)
class _View:
    """The camera and light of a scene before anything is placed."""

    horizon: float
    slope: float
    swell: float
    water: float


def stream(seed: int, split: str, index: int, purpose: str = "scene") -> np.random.Generator:
    """The random stream of one picture; streams of different splits, indices and purposes are independent."""
    name = int.from_bytes(hashlib.sha256(f"{split}/{purpose}".encode()).digest()[:8], "little")
    return np.random.default_rng(np.random.SeedSequence([seed, name, index]))


def sample_scene(seed: int, split: str, index: int) -> Scene:
    """Scene number `index` of a split; "compositional" always shows a held-out combination, others never do."""
    rng = stream(seed, split, index)
    while True:
        truth = _sample_compositional(rng) if split == "compositional" else _sample_truth(rng)
        if is_held_out(truth) == (split == "compositional"):
            scene = arrange(truth, rng)
            if scene is not None:
                return scene


def _sample_truth(
    rng: np.random.Generator, sky: str | None = None, ground: str | None = None, first: Group | None = None
) -> Truth:
    """A sky, a ground and one to three groups that go together; what is passed in is kept."""
    sky = sky or SKIES[rng.integers(len(SKIES))]
    if ground is None:
        choices = KINDS[first.kind].grounds if first and first.kind else GROUNDS
        ground = choices[rng.integers(len(choices))]
    number_of_groups = int(rng.choice(3, p=_GROUP_SHARES)) + 1
    allowed = [name for name, kind in KINDS.items() if ground in kind.grounds]
    while True:
        weights = np.array([KINDS[name].weight for name in allowed])
        kinds = [str(k) for k in rng.choice(allowed, number_of_groups, replace=False, p=weights / weights.sum())]
        groups = [Group(k, _sample_number(rng), _sample_colour(rng, k)) for k in kinds]
        if first is not None:
            if first.kind in kinds[1:]:
                continue
            groups[0] = Group(first.kind, groups[0].number, first.colour)
        if _fits(groups):
            return Truth(sky, ground, tuple(groups))


def _sample_number(rng: np.random.Generator) -> int:
    return int(rng.choice(NUMBERS, p=NUMBER_SHARES))


def _sample_colour(rng: np.random.Generator, kind: str) -> str:
    return str(rng.choice(KINDS[kind].colours))


def _sample_compositional(rng: np.random.Generator) -> Truth:
    """A truth built around one held-out combination; all combinations come equally often."""
    combinations = sorted(HELD_OUT_COLOURS) + sorted(HELD_OUT_PLACES)
    first, second = combinations[rng.integers(len(combinations))]
    if first in KINDS:
        return _sample_truth(rng, first=Group(first, None, second))
    return _sample_truth(rng, sky=first, ground=second)


def _fits(groups: list[Group]) -> bool:
    """Whether the things have room: one group in a zone, few enough in each half of the picture."""
    numbers: dict[str, int] = {}
    for group in groups:
        assert group.kind and group.number and group.colour in COLOURS
        zone = KINDS[group.kind].zone
        if zone in numbers:
            return False
        numbers[zone] = group.number
    upper = sum(number for zone, number in numbers.items() if zone in _UPPER)
    return max(upper, sum(numbers.values()) - upper) <= MAX_PER_HALF


def arrange(truth: Truth, rng: np.random.Generator, attempts: int = 40) -> Scene | None:
    """Place the things of `truth`; None when no attempt found room without overlap (the caller samples anew)."""
    assert truth.sky is not None and truth.ground is not None
    for attempt in range(attempts):
        view = _sample_view(truth, rng)
        items = _place_all(truth, view, rng, shrink=0.985**attempt)
        if items is not None:
            sun_x, sun_y = _place_sun(
                truth.sky == "sunset", view, [item.box(_kind(truth, item)) for item in items], rng
            )
            return Scene(
                sky=truth.sky,
                ground=truth.ground,
                groups=truth.groups,
                items=tuple(items),
                horizon=view.horizon,
                slope=view.slope,
                swell=view.swell,
                water=view.water,
                sun_x=_rounded(sun_x),
                sun_y=_rounded(sun_y),
                exposure=_rounded(rng.uniform(0.95, 1.04)),
                texture_seed=int(rng.integers(2**31)),
            )
    return None


def _kind(truth: Truth, item: Item) -> str:
    kind = truth.groups[item.group].kind
    assert kind is not None
    return kind


def _place_sun(low: bool, view: _View, boxes: list[Box], rng: np.random.Generator) -> tuple[float, float]:
    """Where sun or moon stands: of some random places the first that no thing covers, else the freest one."""
    best, most = (0.5, 0.15), -1.0
    for u, v in rng.random((12, 2)).tolist():
        x, y = 0.14 + 0.72 * u, view.horizon - 0.03 if low else 0.1 + 0.12 * v
        free = min((max(b[0] - x, x - b[2], b[1] - y, y - b[3]) for b in boxes), default=1.0)
        if free > most:
            best, most = (x, y), free
        if free > (0.09 if low else 0.06):
            break
    return best


def _rounded(value: float) -> float:
    """Four decimals: 0.04 px at 384 px, and JSON that restores the very same scene."""
    return round(float(value), 4)


def _sample_view(truth: Truth, rng: np.random.Generator) -> _View:
    """Horizon and tilt; the horizon stays near the middle, between the second and the third row of cells."""
    level = truth.ground in ("sea", "beach")
    horizon = rng.uniform(0.485, 0.53)
    tilt = 0.012 if level else 0.03
    swell = 0.0 if level else rng.uniform(0.0, 0.012)
    water = horizon
    if truth.ground == "beach":
        has_boats = _has_boats(truth)
        horizon = horizon - 0.03
        water = horizon + (rng.uniform(0.26, 0.29) if has_boats else rng.uniform(0.08, 0.12))
    return _View(_rounded(horizon), _rounded(rng.uniform(-tilt, tilt)), _rounded(swell), _rounded(water))


def _has_boats(truth: Truth) -> bool:
    return any(group.kind == "boat" for group in truth.groups)


def _place_all(truth: Truth, view: _View, rng: np.random.Generator, shrink: float) -> list[Item] | None:
    items: list[Item] = []
    boxes: list[Box] = []
    free = {(row, column) for row in range(CELLS) for column in range(CELLS)}
    # Mountains and boats go first: they have one row to stand in, which others would otherwise take.
    order = sorted(range(len(truth.groups)), key=lambda i: len(_rows(truth, truth.groups[i])))
    for index in order:
        group = truth.groups[index]
        assert group.kind is not None and group.number is not None
        rows = _rows(truth, group)
        cells = sorted(cell for cell in free if cell[0] in rows)
        if len(cells) < group.number:
            return None
        size = rng.uniform(*_SIZES) * KINDS[group.kind].scale * shrink
        flip = bool(rng.random() < 0.5)
        for cell in _choose(cells, group.number, rng):
            item = _place(group.kind, index, size, cell, flip, truth.ground, view, boxes, rng)
            if item is None:
                return None
            free.remove(cell)
            items.append(item)
            boxes.append(item.box(group.kind))
    return items


def _rows(truth: Truth, group: Group) -> tuple[int, ...]:
    """The rows of cells that a group may stand in; a beach with boats has its water in the third row."""
    zone = KINDS[str(group.kind)].zone
    if zone == "sky":
        return (0, 1)
    if zone == "horizon":
        return (1,)
    if truth.ground == "beach" and _has_boats(truth):
        return (2,) if zone == "water" else (3,)
    return (2, 3)


def _choose(cells: list[Cell], number: int, rng: np.random.Generator) -> list[Cell]:
    """Some of the cells. Half of the groups keep together on one side, so that "left" can be said of them."""
    disorder = rng.random(len(cells))
    if rng.random() < 0.5:
        middle = rng.choice((0.22, 0.5, 0.78))
        disorder = 0.25 * disorder + [abs((column + 0.5) / CELLS - middle) for _, column in cells]
    return [cells[i] for i in np.argsort(disorder)[:number]]


def _place(
    kind: str,
    group: int,
    size: float,
    cell: Cell,
    flip: bool,
    ground: str | None,
    view: _View,
    boxes: list[Box],
    rng: np.random.Generator,
) -> Item | None:
    """One thing near the middle of a cell, as far as its zone allows; None where it has no room."""
    about = KINDS[kind]
    row, column = cell
    for _ in range(12):
        own_size = size * rng.uniform(0.95, 1.05)
        half_width, half_height = own_size * about.width / 2, own_size * about.height / 2
        x, y = ((0.5 + i + rng.uniform(-_JITTER, _JITTER)) / CELLS for i in (column, row))
        x = min(max(x, MARGIN + half_width), 1 - MARGIN - half_width)
        top, bottom = _limits(about.zone, half_height, x, ground, view)
        if top > bottom:
            return None
        y = min(max(y, top), bottom)
        if not _covered((x - half_width, y - half_height, x + half_width, y + half_height), boxes):
            variant = 0.999 * rng.random()  # stays below 1 when rounded
            return Item(group, _rounded(x), _rounded(y), _rounded(own_size), flip, _rounded(variant))
    return None


def _limits(zone: str, half_height: float, x: float, ground: str | None, view: _View) -> tuple[float, float]:
    """The highest and the lowest y that the middle of a box may have in its zone."""
    horizon = view.horizon + view.slope * (x - 0.5)
    if zone == "sky":
        return MARGIN + half_height, horizon - 0.02 - half_height
    if zone == "horizon":
        return (horizon + 0.012 - half_height,) * 2
    if zone == "water":
        near = view.water - 0.02 if ground == "beach" else 1 - MARGIN - 0.02
        return horizon + 0.055 - half_height, near - half_height
    far = max(horizon + 0.07, view.water + 0.075)
    return far - half_height, 1 - MARGIN - 0.01 - half_height


def _covered(box: Box, boxes: list[Box]) -> bool:
    """Whether the box is closer than `_GAP` to one of the others."""
    left, top, right, bottom = box[0] - _GAP, box[1] - _GAP, box[2] + _GAP, box[3] + _GAP
    return any(left < b[2] and b[0] < right and top < b[3] and b[1] < bottom for b in boxes)
