"""reports/index.html: one page about the last reproduction, with everything it shows inside it.

Reads the stages' reports and the evaluation pictures; no model, no network, no time stamp. What a report lacks
is left out of the page, so that it can be made again at any time (`minivlm report`).
"""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from minivlm.errors import UserError
from minivlm.evaluation.page import benchmarks, figures, tables
from minivlm.evaluation.page.charts import line_chart
from minivlm.evaluation.page.style import CSS
from minivlm.files import read_json, write_text
from minivlm.paths import SPLITS, Paths

WIDEST = 480  # pixels of an embedded picture
STEP, TRAINING, VALIDATION = "step", "loss", "val_loss"  # columns of loss.csv


def write_report(paths: Paths) -> Path:
    """Write the page and return its path; UserError when evaluate has not run yet."""
    evaluate = paths.reports("evaluate")
    if not (evaluate / "metrics.json").exists():
        raise UserError("reports/evaluate/metrics.json is missing: run `dvc repro` first")
    metrics = read_json(evaluate / "metrics.json")
    entries = _json(evaluate / "captions.json") or []
    folder = paths.data / "eval_images"
    images = {e["file"]: data_uri(folder / e["file"]) for e in entries if (folder / e["file"]).exists()}
    charts = [_loss_panel(stage, paths.reports(stage)) for stage in figures.STAGES]
    validation = {split: _json(paths.reports("validate") / f"{split}.json") or {} for split in SPLITS}
    costs = {stage: _json(paths.reports(stage) / "cost.json") for stage in tables.COSTED}
    page = document(
        {
            "": figures.cards(metrics),
            "What it says": tables.captions(entries, images),
            "Held-out pictures": figures.table(metrics) + tables.samples(_json(evaluate / "samples.json") or []),
            "Recall by kind of attribute": figures.attributes(metrics),
            "Loss": _panels(charts),
            "Data": tables.data(validation, _tokens(paths.reports("tokenize"))),
            "Cost": tables.cost({stage: cost for stage, cost in costs.items() if cost}),
            "Benchmarks": benchmarks.section(results(paths.root / "benchmarks" / "results")),
        }
    )
    target = paths.reports("evaluate").parent / "index.html"
    write_text(target, page)
    return target


NOTES = {
    "What it says": "Each stage's model is asked its own question about pictures that no training row shows. "
    "Underlined words are wrong about a drawn scene.",
    "Held-out pictures": "The small figure is the same score when every picture gets another picture's caption "
    "(for the image gap, when two exchanges are compared): what a model earns that never looks.",
    "Loss": "Nats for each supervised token. Line: training; dots: rows kept for validation.",
    "Cost": "Measured in this run; it differs from run to run.",
    "Benchmarks": "Not of this run: what make bench last wrote into benchmarks/results. The reference trains as "
    "the original does, on the same weights and rows; docs/performance.md says how.",
}


def document(sections: Mapping[str, str]) -> str:
    """The whole page: title → content of its sections, empty ones left out."""
    body = []
    for title, content in sections.items():
        if content:
            heading = f"<h2>{escape(title)}</h2>" if title else ""
            note = f'<p class="note">{escape(NOTES[title])}</p>' if title in NOTES else ""
            body.append(f"<section>{heading}{note}{content}</section>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>minivlm: report</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{CSS}{benchmarks.CSS}</style></head>\n<body><main><h1>minivlm</h1>\n"
        '<p class="lead">A small Chinese vision-language model, trained in two stages. <strong>Pretrain</strong> '
        "learns to say a picture in one sentence; <strong>SFT</strong> learns to describe it and to answer "
        "questions.</p>\n"
        f"{chr(10).join(body)}\n<footer>Made by the evaluate stage; <code>minivlm report</code> makes it again. "
        "Everything shown is inside this file.</footer></main></body></html>\n"
    )


def results(folder: Path) -> dict[str, Any]:
    """Name → values of the benchmarks' files; one that the page cannot show is named and left out.

    They are not of this run: a file that somebody edited must not end an evaluation whose captions are all said.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            values = read_json(path)
            benchmarks.section({path.stem: values})
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            print(f"{path}: damaged ({type(error).__name__}: {error}); left out of the page", flush=True)
        else:
            found[path.stem] = values
    return found


def data_uri(path: Path) -> str:
    """A picture as a data URI, no wider or higher than `WIDEST` pixels; small ones keep their bytes."""
    from PIL import Image

    with Image.open(path) as image:
        kind = image.format or "PNG"
        content = path.read_bytes()
        if max(image.size) > WIDEST:
            small = image.convert("RGB")
            small.thumbnail((WIDEST, WIDEST))
            stream, kind = io.BytesIO(), "JPEG"
            small.save(stream, kind, quality=88)
            content = stream.getvalue()
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content).decode()}"


def _loss_panel(stage: str, folder: Path) -> str:
    """The loss curve of a stage from its loss.csv; empty without one."""
    if not (folder / "loss.csv").exists():
        return ""
    with (folder / "loss.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    training, validation = _points(rows, TRAINING), _points(rows, VALIDATION)
    if not training:
        return ""
    last = f", ending at {validation[-1][1]:.3f} on the validation rows" if validation else ""
    said = f"{figures.STAGES[stage]}: training loss from {training[0][1]:.3f} to {training[-1][1]:.3f}{last}."
    chart = line_chart(training, validation, stage, said)
    return f'<div class="card"><h3>{figures.STAGES[stage]}</h3>{chart}<p class="note">{said}</p></div>'


def _points(rows: Sequence[Mapping[str, str]], column: str) -> list[tuple[float, float]]:
    """(step, value) of the rows that have a finite value in the column."""
    points = [(float(row[STEP]), float(row[column])) for row in rows if row.get(column)]
    return [(step, value) for step, value in points if math.isfinite(value)]


def _panels(parts: Sequence[str]) -> str:
    return f'<div class="panels">{"".join(parts)}</div>' if any(parts) else ""


def _tokens(folder: Path) -> dict[str, Any]:
    """The figures of tokenize by dotted name."""
    from minivlm.evaluation.scores import flattened

    return dict(flattened(_json(folder / "metrics.json") or {}))


def _json(path: Path) -> Any:
    return read_json(path) if path.exists() else None
