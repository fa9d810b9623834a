"""The pipeline as a figure of the page: an SVG from dvc.yaml's stages, drawn once wide and once narrow.

Stages stand in the order of dvc.yaml. An arrow means that a stage reads what another one wrote; between
neighbours it is straight, to a later stage it goes around those between, and pointing at it names the paths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

from minivlm.evaluation.page.charts import svg
from minivlm.evaluation.pipeline_facts import StageFacts

DOES = {
    "download": "draws or fetches rows",
    "validate": "checks every row",
    "base": "trains tower and LLM",
    "tokenize": "tokens, loss masks",
    "pretrain": "trains the projection",
    "sft": "trains the LLM too",
    "evaluate": "captions and scores",
}
STATES = {"done": "✓ done", "changed": "! changed", "new": "– not run"}
WIDE, HIGH, GAP, LANE = 136, 66, 26, 15  # a box, the room between two boxes, and between two arcs
NARROW, ROW = 200, 84  # a box of the narrow figure, and from one to the next
PORT = 11  # between two arrows that end, or begin, at the same box
CSS = """
.dag rect { fill: var(--card); stroke: var(--ink); stroke-width: 1.3; }
.dag .changed rect { stroke-dasharray: 5 4; stroke: var(--wrong-ink); } .dag .new rect { stroke-dasharray: 2 4; }
.dag path { fill: none; stroke: var(--soft); stroke-width: 1.4; }
.dag .way:hover path { stroke: var(--sft); stroke-width: 2.6; }
.dag .way .hit, .dag .way:hover .hit { stroke: transparent; stroke-width: 12; }
.dag .head { fill: var(--soft); stroke: none; }
.dag text { font-size: 11.5px; } .dag text.stage { font-size: 15px; font-weight: 650; fill: var(--ink); }
.dag .changed .state { fill: var(--wrong-ink); } .dag .done .state { fill: var(--good); }
.dag .narrow { display: none; max-width: 340px; margin: 0 auto; }
@media (max-width: 800px) { .dag .wide { display: none; } .dag .narrow { display: block; } }
"""


def figure(stages: Sequence[StageFacts], seconds: Mapping[str, str]) -> str:
    """Both drawings with what they say in words; `seconds`: stage → its time, where it is known. Empty without."""
    if not stages:
        return ""
    said = "; ".join(f"{stage.name} reads {', '.join(stage.reads) or 'nothing'}" for stage in stages)
    text = f"The stages of dvc.yaml. {said}."
    changed = "".join(
        f"<li><code>{escape(stage.name)}</code> is of other values of {escape(', '.join(stage.changed))}</li>"
        for stage in stages
        if stage.changed
    )
    below = f'<ul class="note">{changed}</ul>' if changed else ""
    return (
        f'<div class="card dag"><div class="wide">{_wide(stages, seconds, text)}</div>'
        f'<div class="narrow">{_narrow(stages, seconds, text)}</div>{below}</div>'
    )


def _wide(stages: Sequence[StageFacts], seconds: Mapping[str, str], text: str) -> str:
    place = {stage.name: i * (WIDE + GAP) for i, stage in enumerate(stages)}
    by_name = {stage.name: stage for stage in stages}
    lanes = _lanes(stages)
    top = 8 + LANE * (1 + max(lanes.values(), default=0))
    shapes = []
    for (source, target), (start, end) in _ports(lanes).items():
        lane = top - LANE * (lanes[source, target] + 1)
        left, right = place[source] + WIDE - 14 - PORT * start, place[target] + 14 + PORT * end
        way = f"M{left} {top}V{lane + 8}q0 -8 8 -8H{right - 8}q8 0 8 8V{top - 5}"
        shapes.append(_way(way, _head(right, top, "down"), _title(by_name[target], source)))
    for one, other in pairwise(stages):
        if one.name in other.reads:
            x, y = place[other.name], top + HIGH / 2
            shapes.append(_way(f"M{x - GAP} {y}H{x - 5}", _head(x, y, "right"), _title(other, one.name)))
    for stage in stages:
        shapes.append(_box(stage, place[stage.name], top, WIDE, seconds.get(stage.name, "")))
        if "data" in stage.reads:
            middle = place[stage.name] + WIDE / 2
            shapes.append(
                f'<text x="{middle}" y="{top + HIGH + 17}" text-anchor="middle">↑ also reads data/</text>'
            )
    return svg(len(stages) * (WIDE + GAP) - GAP, top + HIGH + 20, shapes, text)


def _narrow(stages: Sequence[StageFacts], seconds: Mapping[str, str], text: str) -> str:
    place = {stage.name: i * ROW + 2 for i, stage in enumerate(stages)}
    by_name = {stage.name: stage for stage in stages}
    lanes = _lanes(stages)
    left, edge = 2, 2 + NARROW
    shapes = []
    for (source, target), (start, end) in _ports(lanes).items():
        x = edge + LANE * (lanes[source, target] + 1.4)
        above, below = place[source] + HIGH - 12 - PORT * start, place[target] + 12 + PORT * end
        way = f"M{edge} {above}H{x - 8:.1f}q8 0 8 8V{below - 8}q0 8 -8 8H{edge + 5}"
        shapes.append(_way(way, _head(edge, below, "left"), _title(by_name[target], source)))
    for one, other in pairwise(stages):
        if one.name in other.reads:
            middle, y = left + NARROW / 2, place[other.name]
            way = f"M{middle} {y - ROW + HIGH}V{y - 5}"
            shapes.append(_way(way, _head(middle, y, "down"), _title(other, one.name)))
    for stage in stages:
        shapes.append(_box(stage, left, place[stage.name], NARROW, seconds.get(stage.name, "")))
        if "data" in stage.reads:
            middle, y = left + NARROW / 2, place[stage.name] + HIGH + 16
            shapes.append(f'<text x="{middle}" y="{y}" text-anchor="middle">↑ also reads data/</text>')
    width = edge + LANE * (max(lanes.values(), default=0) + 2)
    return svg(width, len(stages) * ROW + 4, shapes, text)


def _ports(lanes: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], tuple[int, int]]:
    """Which of its source's and of its target's ports an arrow takes: arrows in outer lanes the outer ones, so
    that those of a box do not cross."""
    order = sorted(lanes, key=lambda ends: lanes[ends])
    return {
        (source, target): (
            [ends for ends in order if ends[0] == source].index((source, target)),
            [ends for ends in order if ends[1] == target].index((source, target)),
        )
        for source, target in order
    }


def _lanes(stages: Sequence[StageFacts]) -> dict[tuple[str, str], int]:
    """A lane for each arrow that jumps over stages: short jumps inside, no two that overlap in one lane."""
    place = {stage.name: i for i, stage in enumerate(stages)}
    jumps = [
        (place[source], i)
        for i, stage in enumerate(stages)
        for source in stage.reads
        if source in place and i - place[source] > 1
    ]
    taken: list[list[tuple[int, int]]] = []
    lanes = {}
    for start, end in sorted(jumps, key=lambda jump: (jump[1] - jump[0], jump)):
        free = (n for n, lane in enumerate(taken) if all(end <= a or start >= b for a, b in lane))
        lane = next(free, len(taken))
        if lane == len(taken):
            taken.append([])
        taken[lane].append((start, end))
        lanes[stages[start].name, stages[end].name] = lane
    return lanes


def _box(stage: StageFacts, x: float, y: float, width: float, time: str) -> str:
    middle = x + width / 2
    lines = (("stage", stage.name, 22), ("", DOES.get(stage.name, ""), 40))
    text = "".join(
        f'<text class="{kind}" x="{middle}" y="{y + down}" text-anchor="middle">{escape(words)}</text>'
        for kind, words, down in lines
    )
    state = f"{STATES[stage.state]}{f' · {time}' if time else ''}"
    return (
        f'<g class="{stage.state}"><rect x="{x}" y="{y}" width="{width}" height="{HIGH}" rx="8"/>{text}'
        f'<text class="state" x="{middle}" y="{y + 57}" text-anchor="middle">{escape(state)}</text></g>'
    )


def _way(path: str, head: str, title: str) -> str:
    return (
        f'<g class="way"><title>{escape(title)}</title><path class="hit" d="{path}"/><path d="{path}"/>{head}</g>'
    )


def _head(x: float, y: float, towards: str) -> str:
    """An arrow's head with its point at (x, y)."""
    a, b = {"right": ((-7, -4), (-7, 4)), "down": ((-4, -7), (4, -7)), "left": ((7, -4), (7, 4))}[towards]
    return f'<path class="head" d="M{x:.1f} {y:.1f}l{a[0]} {a[1]}l{b[0] - a[0]} {b[1] - a[1]}z"/>'


def _title(target: StageFacts, source: str) -> str:
    return f"{target.name} reads {', '.join(target.reads[source])}"
