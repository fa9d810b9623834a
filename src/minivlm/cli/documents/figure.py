"""docs/images/architecture.svg: the model as a figure, its shapes and weights from the parameters.

The figure has a light ground of its own, so that it reads the same on a light and on a dark page. Its colours are
of Okabe and Ito's palette, which the colour-blind can tell apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import NamedTuple

from minivlm.cli.documents.sizes import Size
from minivlm.evaluation.questions import STAGES

WIDTH, HEIGHT = 1080, 400
TOP, BOTTOM = 75, 250  # of the two rows of boxes
HIGH = 110  # a box
INK, FAINT, PLAIN = "#1b1f24", "#57606a", "#ffffff"
STATES = {  # stages that train a part → its colour, and what the legend says
    (): ("#b4bcc6", "frozen in both stages"),
    STAGES: ("#e69f00", "trained in pretrain and in sft"),
    STAGES[1:]: ("#56b4e9", "trained in sft alone"),
    STAGES[:1]: ("#cc79a7", "trained in pretrain alone"),
}


class Box(NamedTuple):
    """A part: its place, and lines of text, the first its name."""

    x: int
    y: int
    width: int
    fill: str
    lines: tuple[str, str, str]


def architecture(sizes: tuple[Size, Size]) -> str:
    """The figure as SVG text, of the default and the full size."""
    boxes = _boxes(sizes)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" aria-labelledby="title desc" font-family="Helvetica, Arial, sans-serif">',
        f'<title id="title">The model</title><desc id="desc">{escape(description(sizes))}</desc>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{INK}"/></marker></defs>',
        f'<rect x="1" y="1" width="{WIDTH - 2}" height="{HEIGHT - 2}" rx="10" fill="#f6f8fa" stroke="#d0d7de"/>',
        _text(
            30,
            42,
            "In a box: the default model above, the full size below, each with its weights.",
            ink=FAINT,
        ),
        *(each for box in boxes for each in _box(box)),
        *_arrows(sizes),
        *_legend([box.fill for box in boxes]),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def description(sizes: tuple[Size, Size]) -> str:
    """The figure in words, for those who cannot see it."""
    small, full = sizes
    return (
        f"A picture of {small.image} x {small.image} pixels, at full size {full.image} x {full.image}, goes "
        f"through the frozen vision tower, which gives {small.image_tokens} vectors, at full size "
        f"{full.image_tokens}. One linear map, the projector, makes image tokens of them, which stand in the "
        "sequence before the embedded words of the question. The language model reads the sequence and writes the "
        "answer."
    )


def _boxes(sizes: tuple[Size, Size]) -> list[Box]:
    def both(form: str) -> tuple[str, str]:
        first, second = (form.format(s=size, w=size.parts()) for size in sizes)
        return first, second

    tower = both("{s.vision_layers} layers of {s.vision_width}: {w.vision_tower:,}")
    projector = both("{s.vision_width} → {s.llm_width}: {w.projector:,}")
    embeddings = both("{s.vocabulary:,} tokens x {s.llm_width}")
    llm = both("{s.llm_layers} layers of {s.llm_width}: {w.language_model:,}")
    small = sizes[0]
    layers, words = (_fill(small, f"model.language_model.{name}") for name in ("layers.", "embed_tokens."))
    maps = _fill(small, "model.multi_modal_projector.")
    return [
        Box(30, TOP, 135, PLAIN, ("picture", *both("{s.image} x {s.image} x 3"))),
        Box(225, TOP, 220, STATES[()][0], ("vision tower (CLIP)", *tower)),
        Box(545, TOP, 180, maps, ("projector, one linear map", *projector)),
        Box(30, BOTTOM, 135, PLAIN, ("question", "“<image>” and", "Chinese text")),
        Box(225, BOTTOM, 220, words, ("embeddings", *embeddings)),
        Box(545, BOTTOM, 180, PLAIN, ("sequence", "image tokens, then", "those of the question")),
        Box(785, BOTTOM, 190, layers, ("language model (Llama)", *llm)),
    ]


def _fill(size: Size, prefix: str) -> str:
    """The colour of a part whose parameters have names that begin with `prefix`."""

    def trains(stage: str) -> bool:
        return any(name.startswith(prefix) for name in size.weights[size.policies[stage]].trained)

    return STATES[tuple(stage for stage in STAGES if trains(stage))][0]


def _box(box: Box) -> Iterator[str]:
    yield (
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{HIGH}" rx="6" fill="{box.fill}" '
        f'stroke="{INK}" stroke-width="1.2"/>'
    )
    for i, line in enumerate(box.lines):
        place = box.x + box.width / 2, box.y + 33 + 26 * i
        yield _text(*place, line, 14 if i == 0 else 13, "middle", "bold" if i == 0 else "normal")


def _text(
    x: float, y: float, text: str, size: int = 13, anchor: str = "start", weight: str = "normal", ink: str = INK
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{ink}">{escape(text)}</text>'
    )


def _arrows(sizes: tuple[Size, Size]) -> Iterator[str]:
    upper, lower = TOP + HIGH // 2, BOTTOM + HIGH // 2
    ends = ((165, upper, 222), (445, upper, 542), (165, lower, 222), (445, lower, 542), (725, lower, 782))
    paths = [f"M{x} {y}H{to}" for x, y, to in (*ends, (975, lower, 1000))]
    for path in (*paths, f"M635 {TOP + HIGH}V{BOTTOM - 3}"):
        yield f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.6" marker-end="url(#tip)"/>'
    for i, size in enumerate(sizes):
        yield _text(493, upper - 27 + 18 * i, f"{size.image_tokens} x {size.vision_width}", 13, "middle")
        yield _text(647, TOP + HIGH + 28 + 20 * i, f"{size.image_tokens} x {size.llm_width}")
    yield _text(1005, lower + 5, "answer", 14, weight="bold")


def _legend(fills: list[str]) -> Iterator[str]:
    """Of the colours that are there; in the corner that no box takes."""
    for i, (fill, text) in enumerate(state for state in STATES.values() if state[0] in fills):
        y = TOP + 18 + 30 * i
        yield f'<rect x="785" y="{y}" width="24" height="16" rx="3" fill="{fill}" stroke="{INK}"/>'
        yield _text(819, y + 13, text)
