"""reports/report.md: the page's facts as GitHub and other forges show Markdown; pictures by their relative path.

It lies in git beside the reports that it is made of, so it holds no time, no cost and no other run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from minivlm.evaluation.page.captions import said_in_words
from minivlm.evaluation.page.data import SPLITS as FILES
from minivlm.evaluation.page.figures import ATTRIBUTES, FIGURES, SPLITS, STAGES
from minivlm.evaluation.page.numbers import count
from minivlm.evaluation.reports import DAMAGED, Reports
from minivlm.markdown import cell, image, table

PLACE = "../data/eval_images"  # from reports/
HEAD = """# minivlm: report

A small Chinese vision-language model, trained in two stages. With gallery, attention, time and cost:
`reports/index.html`; `minivlm report` makes both.
"""


def markdown(reports: Reports) -> str:
    """The whole text; a part without a report, or with a damaged one, is left out."""
    parts = []
    for title, make in PARTS.items():
        with contextlib.suppress(*DAMAGED):
            if text := make(reports):
                parts.append(f"## {title}\n\n{text.rstrip()}\n")
    return "\n".join([HEAD, *parts])


def _pipeline(reports: Reports) -> str:
    if not reports.stages:
        return ""
    edges = [f"  {source} --> {stage.name}" for stage in reports.stages for source in stage.reads]
    return "\n".join(["```mermaid", "flowchart LR", "  data[(data/)]", *edges, "```"])


def _captions(reports: Reports) -> str:
    rows = []
    for entry in reports.captions:
        shown = image(f"{PLACE}/{entry['file']}", entry["title"], width=160)
        rows.append([f"{shown}<br>{cell(entry['title'])}", *(_said(entry[stage]) for stage in STAGES)])
    note = "✗: what is wrong about a drawn scene; where things are is not checked.\n\n"
    return note + table(["图片", "Pretrain_vlm", "SFT_vlm"], rows, left=3) if rows else ""


def _said(said: dict[str, object]) -> str:
    wrong = said_in_words(said.get("mistakes", ()))  # type: ignore[arg-type]
    return cell(str(said["caption"])) + "".join(f"<br>✗ {cell(each)}" for each in wrong)


def _scores(reports: Reports) -> str:
    columns = [(stage, split) for stage in STAGES for split in SPLITS if split in reports.metrics.get(stage, {})]
    rows = []
    for name, figure in FIGURES.items():
        trees = [reports.metrics[stage][split] for stage, split in columns]
        if any(name in tree for tree in trees):
            shown = [
                f"{figure.show(tree[name])} ({figure.show(tree[f'shuffled_{name}'])})" if name in tree else ""
                for tree in trees
            ]
            rows.append([figure.label, *shown])
    head = ["score", *(f"{STAGES[stage]}, {SPLITS[split]}" for stage, split in columns)]
    return "In brackets: with the pictures exchanged, which is what guessing earns.\n\n" + table(
        head, rows, left=1
    )


def _attributes(reports: Reports) -> str:
    trees = {
        (stage, split): reports.metrics[stage][split]["by_attribute"]
        for stage in STAGES
        for split in SPLITS
        if "by_attribute" in reports.metrics.get(stage, {}).get(split, {})
    }
    rows = [
        [label, *(f"{tree[name]:.1%}" if name in tree else "" for tree in trees.values())]
        for name, label in ATTRIBUTES.items()
        if any(name in tree for tree in trees.values())
    ]
    return table(["attribute", *(f"{STAGES[a]}, {SPLITS[b]}" for a, b in trees)], rows, left=1)


def _loss(reports: Reports) -> str:
    rows = []
    for stage, loss in reports.losses.items():
        run, figures = loss.now, reports.training.get(stage, {})
        steps = run.training[-1][0] if run.training else 0
        mean = f"{figures['train_loss']:.3f}" if "train_loss" in figures else ""
        validation = " → ".join(f"{value:.3f}" for _, value in run.validation)
        rows.append([STAGES[stage], count(round(steps)), count(figures.get("tokens", "")), mean, validation])
    head = ["stage", "steps", "tokens", "training loss (mean of the last tenth)", "validation loss, in order"]
    note = "Nats for each supervised token.\n\n"
    return note + table(head, rows, left=1) if rows else ""


def _data(reports: Reports) -> str:
    rows = []
    for file in FILES:
        gate, tokens = reports.validation.get(file, {}), reports.tokenize.get(file, {})
        if gate.get("rows"):
            figures = [gate["rows"], gate["accepted"], gate["rejected"], tokens.get("tokens", ""),
                       tokens.get("supervised_tokens", "")]  # fmt: skip
            rows.append([file, *map(count, figures)])
    return table(["split", "rows", "accepted", "rejected", "tokens", "supervised tokens"], rows, left=1)


PARTS: dict[str, Callable[[Reports], str]] = {
    "The pipeline": _pipeline,
    "What it says": _captions,
    "Held-out pictures": _scores,
    "Recall by kind of attribute": _attributes,
    "Loss": _loss,
    "Data": _data,
}
