"""The page as a whole: its sections in order, what they say of themselves, and the way between them."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import NamedTuple

from minivlm.evaluation.page import attention, benchmarks, captions, cost, dag, data, figures, loss
from minivlm.evaluation.page.style import CSS
from minivlm.evaluation.reports import DAMAGED, Reports

STYLE = CSS + dag.CSS + captions.CSS + attention.CSS + data.CSS + benchmarks.CSS


class Section(NamedTuple):
    """A part of the page: its place in the address, its title, a note, and what makes its content."""

    name: str
    title: str
    note: str
    make: Callable[[Reports], str]


SECTIONS = (
    Section("figures", "", "", lambda r: figures.cards(r.metrics)),
    Section(
        "pipeline",
        "The pipeline",
        "What each stage reads of the others (dvc.yaml); pointing at an arrow names it. Done: run with the "
        "parameters that params.yaml has now. Times are those of the trainings.",
        lambda r: dag.figure(r.stages, cost.times(r.costs)),
    ),
    Section(
        "captions",
        "What it says",
        "Each stage's model is asked its own question about pictures that no training row shows. Of drawn scenes "
        "the truth is known: words that are wrong are underlined, what is wrong stands below. Sky, ground, kind, "
        "number and colour of things are checked, not where they are.",
        lambda r: captions.captions(r.captions, r.images),
    ),
    Section("attention", "Where it looks", "", lambda r: attention.overlays(r.attention, r.images)),
    Section(
        "scores",
        "Held-out pictures",
        "The small figure is the same score when every picture gets another picture's caption (for the image gap, "
        "when two exchanges are compared): what a model earns that never looks.",
        lambda r: figures.table(r.metrics) + captions.samples(r.samples),
    ),
    Section(
        "attributes",
        "Recall by kind of attribute",
        "Of what the pictures show, the share that is said rightly.",
        lambda r: figures.attributes(r.metrics),
    ),
    Section("loss", "Loss", "Nats for each supervised token.", lambda r: loss.loss_panels(r.losses)),
    Section("data", "Data", "", lambda r: data.facts(r.validation, r.tokenize) + data.gallery(r.gallery)),
    Section(
        "cost",
        "Time and cost",
        "Measured in this run; it differs from run to run. The original trains a model of 26 million parameters "
        "on photographs: only its own schedule compares with it.",
        lambda r: (
            cost.against_the_original(r.costs, r.benchmarks.get("step", {}).get("schedule", {}))
            + cost.cost(r.costs)
        ),
    ),
    Section(
        "benchmarks",
        "Benchmarks",
        "Not of this run: what make bench last wrote into benchmarks/results. The reference trains as the "
        "original does, on the same weights and rows; docs/performance.md says how.",
        lambda r: benchmarks.section(r.benchmarks),
    ),
)


def document(reports: Reports) -> tuple[str, list[str]]:
    """The page, and what it leaves out because a report is damaged; sections without content are not there."""
    made, left_out = [], []
    for section in SECTIONS:
        try:
            content = section.make(reports)
        except DAMAGED as error:
            left_out.append(
                f"{section.title or section.name}: a report is damaged ({type(error).__name__}: {error})"
            )
        else:
            made += [(section, content)] if content else []
    ways = "".join(f'<li><a href="#{each.name}">{escape(each.title)}</a></li>' for each, _ in made if each.title)
    body = "\n".join(_section(section, content) for section, content in made)
    missing = "".join(
        f"<p>Left out: {escape(line)}.</p>" for line in dict.fromkeys([*reports.left_out, *left_out])
    )
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>minivlm: report</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<style>{STYLE}</style></head>\n<body><main><h1>minivlm</h1>\n"
        '<p class="lead">A small Chinese vision-language model, trained in two stages. <strong>Pretrain</strong> '
        "learns to say a picture in one sentence; <strong>SFT</strong> learns to describe it and to answer "
        "questions.</p>\n"
        f'<nav aria-label="Contents"><ul>{ways}</ul></nav>\n{body}\n'
        f"<footer>{missing}<p>Made by the evaluate stage; <code>minivlm report</code> makes it again. "
        "Everything shown is inside this file.</p></footer></main></body></html>\n"
    )
    return page, left_out


def _section(section: Section, content: str) -> str:
    heading = f"<h2>{escape(section.title)}</h2>" if section.title else ""
    note = f'<p class="note">{escape(section.note)}</p>' if section.note else ""
    return f'<section id="{section.name}">{heading}{note}{content}</section>'
