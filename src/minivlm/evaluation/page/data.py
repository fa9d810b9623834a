"""The page's data facts: what validate accepted, what tokenize counted, and drawn pictures with their captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from minivlm.evaluation.page.html import Row, card, table
from minivlm.evaluation.page.numbers import count

SPLITS = {
    "pretrain": "first stage: a picture and one sentence",
    "sft": "second stage: descriptions and questions",
    "heldout": "new pictures, for the scores",
    "compositional": "combinations that training never shows",
}
LENGTHS = {"min": "shortest row", "median": "median", "p95": "95th percentile", "max": "longest"}  # in tokens
CSS = """
.gallery { display: grid; grid-template-columns: repeat(auto-fit, minmax(118px, 1fr)); gap: 14px; }
.gallery figure { margin: 0; }
.gallery img { display: block; width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 8px; }
.gallery figcaption { font-size: 13px; line-height: 1.45; margin-top: 5px; }
"""


@dataclass(frozen=True)
class Sample:
    """A row of the gallery: its id, its picture as a data URI, what its answer says."""

    row: str
    image: str
    text: str


def facts(validation: Mapping[str, Mapping[str, Any]], tokenize: Mapping[str, Mapping[str, Any]]) -> str:
    """Rows of each file with the gate's verdict, and the tokens of each with their lengths."""
    found = card(_validated(validation), "What validate found", "Rejected rows, with reasons: reports/validate/.")
    counted = card(
        _tokens(tokenize),
        "What tokenize counted",
        "Tokens include those of the pictures; the loss counts the supervised ones. As text, with the loss mask: "
        "reports/tokenize/samples.md.",
    )
    return found + counted


def _validated(validation: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for file in SPLITS:
        report = validation.get(file)
        if not report or not report.get("present", True):
            continue
        checks = report.get("expectations", [])
        held = sum(1 for check in checks if check.get("success"))
        figures = [count(report.get(name, 0)) for name in ("rows", "accepted", "rejected")]
        rows.append(Row(_split(file), [*figures, f"{held} of {len(checks)}"]))
    columns = ("rows", "accepted", "rejected", "checks passed")
    return table("split", columns, rows, caption="Rows of each split that validate accepted") if rows else ""


def _tokens(tokenize: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for split in SPLITS:
        counted = tokenize.get(split)
        if not counted:
            continue
        lengths = counted.get("length", {})
        share = counted["supervised_tokens"] / max(counted["tokens"], 1)
        cells = [
            count(counted["rows"]),
            count(counted["tokens"]),
            f"{count(counted['supervised_tokens'])} <small>{share:.0%}</small>",
            *(count(lengths.get(name, "")) for name in LENGTHS),
            count(counted["truncated_rows"]),
            count(counted["validation_rows"]),
        ]
        rows.append(Row(escape(split), cells))
    columns = ("rows", "tokens", "supervised", *LENGTHS.values(), "truncated", "for validation")
    return table("split", columns, rows, caption="Tokens of each split") if rows else ""


def _split(name: str) -> str:
    return f"{escape(name)}<small>{escape(SPLITS[name])}</small>"


def gallery(samples: Mapping[str, Sequence[Sample]]) -> str:
    """A few drawn pictures of each split with what their rows say of them."""
    shown = []
    for split, some in samples.items():
        figures = "".join(
            f'<figure><img src="{each.image}" alt="drawn scene of row {escape(each.row)}">'
            f'<figcaption lang="zh-CN">{escape(each.text)}</figcaption></figure>'
            for each in some
        )
        if figures:
            rows = ", ".join(each.row for each in some)
            title = f"{split}: {SPLITS[split]}"
            shown.append(card(f'<div class="gallery">{figures}</div>', title, f"Rows {escape(rows)}."))
    return "".join(shown)
