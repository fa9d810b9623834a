"""The page's figures: headlines, the full table, recall by kind of attribute, each beside what guessing earns.

All functions take the tree of metrics.json (stage → split → figure) and return HTML; an empty string where
there is nothing to show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from minivlm.evaluation.page import html
from minivlm.evaluation.page.charts import bar_chart
from minivlm.evaluation.page.html import Row, card, small

Metrics = Mapping[str, Mapping[str, Mapping[str, Any]]]

STAGES = {"pretrain": "Pretrain", "sft": "SFT"}
SPLITS = {"heldout": "new pictures", "compositional": "never-seen combinations"}
ATTRIBUTES = {"sky": "sky", "ground": "ground", "kind": "thing", "number": "number", "colour": "colour"}


@dataclass(frozen=True)
class Figure:
    """How a figure is called and shown; `whole` is the value that fills its bar."""

    label: str
    meaning: str
    whole: float = 1.0
    unit: str = "%"

    def show(self, value: float) -> str:
        if self.unit == "%":
            return f"{value:.1%}"
        return f"{value:.2f}{self.unit}" if self.whole <= 10 else f"{value:.1f}{self.unit}"


FIGURES = {
    "attribute_recall": Figure("Attribute recall", "of what the pictures show, the share said rightly"),
    "attribute_precision": Figure("Attribute precision", "of what the captions state, the share that is right"),
    "exact_scene": Figure("Exact scene", "captions with everything right and nothing added"),
    "hallucination_rate": Figure(
        "Hallucinated things", "of the kinds of things named, the share that is not there"
    ),
    "cider": Figure("CIDEr-D", "agreement with people's captions, weighed by how telling the words are", 10, ""),
    "bleu": Figure("BLEU", "character n-grams that a reference has too", 100, ""),
    "chrf": Figure("chrF", "F-score of character n-grams", 100, ""),
    "image_gap": Figure(
        "Image gap", "how much worse the model predicts the answers from another picture", 4, " nats"
    ),
}
HEADLINES = (
    ("sft", "heldout", "attribute_recall"),
    ("sft", "compositional", "attribute_recall"),
    ("sft", "heldout", "exact_scene"),
    ("pretrain", "heldout", "attribute_recall"),
    ("sft", "heldout", "cider"),
    ("sft", "heldout", "chrf"),
    ("sft", "heldout", "image_gap"),
)
CARDS = 5


def cards(metrics: Metrics) -> str:
    """The first figures of HEADLINES that were measured, large, with a bar and the baseline's tick on it."""
    found = [h for h in HEADLINES if h[2] in metrics.get(h[0], {}).get(h[1], {})]
    scenes = any(name == "attribute_recall" for _, _, name in found)
    found = [h for h in found if not (scenes and h[2] == "chrf")][:CARDS]
    shown = []
    for stage, split, name in found:
        figure, tree = FIGURES[name], metrics[stage][split]
        value, guess = tree[name], tree.get(f"shuffled_{name}")
        share, tick = (min(max(v or 0.0, 0.0) / figure.whole, 1.0) for v in (value, guess))
        baseline = "" if guess is None else f"guessing earns {figure.show(guess)}"
        shown.append(
            f'<div class="card"><h3>{STAGES[stage]} · {SPLITS[split]}</h3>'
            f'<div class="figure">{_large(figure.show(value))}</div>'
            f'<div class="meter" aria-hidden="true"><i class="{stage}" style="width:{share:.1%}"></i>'
            f'<b style="left:{tick:.1%}"></b></div>'
            f"<div><strong>{figure.label}</strong>: {escape(figure.meaning)}. "
            f'<span class="note">{baseline}</span></div></div>'
        )
    return f'<div class="cards">{"".join(shown)}</div>' if shown else ""


def _large(shown: str) -> str:
    """A figure with its unit in small print."""
    number, _, unit = shown.partition(" ")
    return f"{number} <small>{unit}</small>" if unit else number


def table(metrics: Metrics) -> str:
    """Every figure by stage and split; the small number below is the same figure with the pictures exchanged."""
    columns = [(stage, split) for stage in STAGES for split in SPLITS if split in metrics.get(stage, {})]
    if not columns:
        return ""
    rows = []
    for name, figure in FIGURES.items():
        cells = [_cell(figure, name, metrics[stage][split]) for stage, split in columns]
        if any(cells):
            rows.append(Row(f"{figure.label}{small(escape(figure.meaning))}", cells))
    heads = [f"{STAGES[a]}<br>{SPLITS[b]}" for a, b in columns]
    return card(html.table("figure", heads, rows, caption="Scores on held-out pictures"), kind="scores")


def _cell(figure: Figure, name: str, tree: Mapping[str, Any]) -> str:
    if name not in tree:
        return ""
    guess = tree.get(f"shuffled_{name}")
    return figure.show(tree[name]) + ("" if guess is None else f"<small>guessing {figure.show(guess)}</small>")


def attributes(metrics: Metrics) -> str:
    """Recall by kind of attribute: one panel for each split, one bar for each stage."""
    parts = []
    for split, title in SPLITS.items():
        stages = {s: metrics[s][split] for s in STAGES if "by_attribute" in metrics.get(s, {}).get(split, {})}
        if not stages:
            continue
        groups = {
            label: {
                stage: (tree["by_attribute"][name], tree["shuffled_by_attribute"][name])
                for stage, tree in stages.items()
                if name in tree["by_attribute"]
            }
            for name, label in ATTRIBUTES.items()
        }
        said = "; ".join(
            f"{label}: " + ", ".join(f"{STAGES[stage]} {share:.0%}" for stage, (share, _) in series.items())
            for label, series in groups.items()
        )
        chart = bar_chart(groups, f"Recall by kind of attribute, {title}. {said}")
        parts.append(card(chart, title[0].upper() + title[1:]))
    names = {"pretrain": "Pretrain, the upper bar", "sft": "SFT, the lower bar", "tick": "what guessing earns"}
    return html.key(names) + html.panels(parts) if parts else ""
