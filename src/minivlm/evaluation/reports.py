"""Everything that the page shows, read from the stages' reports into plain values."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from minivlm.data.data_uri import data_uri
from minivlm.errors import UserError
from minivlm.evaluation.gallery import read_gallery
from minivlm.evaluation.last_run import last_loss
from minivlm.evaluation.page.benchmarks import section
from minivlm.evaluation.page.cost import COSTED
from minivlm.evaluation.page.data import Sample
from minivlm.evaluation.page.figures import STAGES
from minivlm.evaluation.page.loss import Loss, read_curves
from minivlm.evaluation.pipeline_facts import StageFacts, read_pipeline
from minivlm.files import read_json
from minivlm.paths import SPLITS, Paths, short

WIDEST = 480  # pixels of an embedded picture
DAMAGED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError)
"""What reading or showing a report raises that somebody has edited, or that a kill has cut."""
T = TypeVar("T")


@dataclass(frozen=True)
class Reports:
    """Values by stage or split as their files hold them; empty where there is no file, or a damaged one.

    `images`: file of data/eval_images → data URI. `left_out`: what was damaged, in words.
    """

    metrics: dict[str, Any]
    captions: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    attention: dict[str, Any]
    images: dict[str, str]
    stages: list[StageFacts]
    losses: dict[str, Loss]
    training: dict[str, dict[str, Any]]
    validation: dict[str, dict[str, Any]]
    tokenize: dict[str, Any]
    gallery: dict[str, list[Sample]]
    costs: dict[str, dict[str, Any]]
    benchmarks: dict[str, dict[str, Any]]
    left_out: list[str] = field(default_factory=list)


def read_reports(paths: Paths, running: str | None = None) -> Reports:
    """Read what is there; UserError when reports/evaluate/metrics.json cannot be read.

    `running`: the stage that is just being run.
    """
    left_out: list[str] = []

    def attempt(name: str, read: Callable[[], T], empty: T) -> T:
        try:
            return read()
        except (*DAMAGED, UserError) as error:
            left_out.append(f"{name}: damaged ({type(error).__name__}: {error})")
            return empty

    def json(path: Path, empty: T) -> T:
        """The file's value; `empty` where it is missing, damaged, or of another type."""
        value = attempt(short(path, paths.root), lambda: read_json(path), empty) if path.exists() else empty
        if not isinstance(value, type(empty)):
            left_out.append(f"{short(path, paths.root)}: damaged (not a {type(empty).__name__})")
            return empty
        return value

    def by_name(names: Any, path: Callable[[str], Path]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {name: json(path(name), {}) for name in names}
        return {name: values for name, values in found.items() if values}

    evaluate, benchmarks = paths.reports("evaluate"), paths.root / "benchmarks" / "results"
    try:
        metrics = read_json(evaluate / "metrics.json")
    except ValueError as error:
        raise UserError(f"{evaluate / 'metrics.json'}: damaged: {error}; run `dvc repro -f evaluate`") from None
    captions: list[dict[str, Any]] = json(evaluate / "captions.json", [])
    folder = paths.data / "eval_images"
    pictures = {str(e["file"]): folder / str(e["file"]) for e in captions if isinstance(e, dict) and "file" in e}
    images = {
        file: attempt(f"data/eval_images/{file}", partial(embedded, path), "")
        for file, path in pictures.items()
        if path.exists()
    }
    losses = {stage: attempt(f"reports/{stage}/loss.csv", partial(_loss, paths, stage), None) for stage in STAGES}
    names = sorted(path.stem for path in benchmarks.glob("*.json"))
    measured = by_name(names, lambda name: benchmarks / f"{name}.json")
    return Reports(
        metrics=metrics,
        captions=captions,
        samples=json(evaluate / "samples.json", []),
        attention=json(evaluate / "attention.json", {}),
        images={file: image for file, image in images.items() if image},
        stages=attempt("dvc.yaml", lambda: read_pipeline(paths.root, running), []),
        losses={stage: loss for stage, loss in losses.items() if loss},
        training=by_name(STAGES, lambda stage: paths.reports(stage) / "metrics.json"),
        validation=by_name(SPLITS, lambda split: paths.reports("validate") / f"{split}.json"),
        tokenize=json(paths.reports("tokenize") / "metrics.json", {}),
        gallery=attempt("artifacts/download", lambda: read_gallery(paths), {}),
        costs=by_name(COSTED, lambda stage: paths.reports(stage) / "cost.json"),
        benchmarks={
            name: values
            for name, values in measured.items()
            # One that cannot be shown leaves the others in the page.
            if attempt(f"benchmarks/results/{name}.json", partial(_can_be_shown, name, values), False)
        },
        left_out=left_out,
    )


def embedded(path: Path) -> str:
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
    return data_uri(content, kind)


def _loss(paths: Paths, stage: str) -> Loss | None:
    file = paths.reports(stage) / "loss.csv"
    if not file.exists():
        return None
    text = file.read_text(encoding="utf-8")
    now = read_curves(text)
    last = last_loss(paths, stage, text)
    return Loss(now, read_curves(last.text), last.which) if last else Loss(now)


def _can_be_shown(name: str, values: dict[str, Any]) -> bool:
    """Whether the page has something to say of a file of benchmarks/results; raises where it is damaged."""
    section({name: values})
    return True
