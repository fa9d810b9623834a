"""What MLflow's page shows of this project's runs: which columns, and which charts come first.

MLflow keeps a named view as a tag of the experiment and lists it under "Views"; an address may name one. Without
one the page shows no figure at all in its table, and every metric as a chart, by the alphabet.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

VERSION = 7
"""Of what follows: a store that was given an earlier one gets this one."""
VERSION_TAG = "minivlm.views"
_CREATED = 1_767_225_600_000  # ms; the page wants a time, and the same views are the same bytes

_SCENES = ("attribute_recall", "image_gap")
_REFERENCES = ("cider", "image_gap")


@dataclass(frozen=True)
class View:
    """A named view: the columns of its table, in order, and a filter of runs ("": the reproductions, with their
    stages below them)."""

    key: str
    name: str
    columns: tuple[str, ...]
    search: str = ""


def _reproductions(key: str, name: str, scores: Iterable[str]) -> View:
    columns = (
        "tags.changed",
        "metrics.sft.val_loss",
        *(f"metrics.evaluate.sft.heldout.{score}" for score in scores),
        "metrics.hours",
        "metrics.money",
        "tags.stage",
        "metrics.pretrain.val_loss",
        *(f"metrics.evaluate.pretrain.heldout.{score}" for score in scores),
        "tags.reused",
        "tags.git.dirty",
    )
    return View(key, name, columns)


SCENES = _reproductions("reproductions", "Reproductions", _SCENES)
REFERENCES = _reproductions("reproductions-cider", "Reproductions, rows without scenes (CIDEr)", _REFERENCES)
STAGES = View(
    "stages",
    "Stages, each by itself",
    (
        "tags.stage",
        "tags.reproduction",
        "metrics.val_loss",
        "metrics.train_loss",
        "metrics.hours",
        "metrics.money",
        "metrics.samples_per_second",
        "metrics.mfu",
        "tags.hardware.device",
    ),
    search="tags.stage != 'reproduction'",
)
VIEWS = (SCENES, REFERENCES, STAGES)


def views_tags() -> dict[str, str]:
    """The tags of an experiment that hold the views, and which version of them."""
    return {f"mlflow.sharedViewState.{view.key}": _saved(view) for view in VIEWS} | {VERSION_TAG: str(VERSION)}


def view_for(source: str) -> View:
    """The view for rows from `download.source`: scenes are scored by what is in them, others by references."""
    return SCENES if source == "scenes" else REFERENCES


def _saved(view: View) -> str:
    """As the page itself saves a view under a name."""
    columns = [_quoted(column) for column in view.columns]
    charts, sections = _charts()
    state = {
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {_quoted(column): _width(column) for column in view.columns},
        "compareRunCharts": charts,
        "compareRunSections": sections,
        "isAccordionReordered": True,  # else the sections are sorted by name
        "hideEmptyCharts": True,
    } | ({"searchFilter": view.search} if view.search else {})
    about = {"name": view.name, "createdAt": _CREATED, "updatedAt": _CREATED}
    return json.dumps(about | {"state": json.dumps(state, separators=(",", ":"))}, separators=(",", ":"))


def _quoted(column: str) -> str:
    kind, _, key = column.partition(".")
    return f"{kind}.`{key}`"


_WIDE = {"tags.changed": 200, "tags.reused": 160, "tags.git.dirty": 80}


def _width(column: str) -> int:
    """Pixels that show the whole name; the names of scores differ at their ends."""
    return _WIDE.get(column, max(100, round(5.6 * len(column.partition(".")[2])) + 26))


# Of a reproduction by the stages' names, then of a stage's own run. A chart whose metric no run on the page has is
# not shown.
_CURVES = ("sft.loss", "sft.val_loss", "pretrain.loss", "pretrain.val_loss", "loss", "val_loss")
_SCORES = ("attribute_recall", "exact_scene", "hallucination_rate", "cider", "bleu", "image_gap")
_MODELS = (("sft", "heldout"), ("sft", "compositional"), ("pretrain", "heldout"))
# Section → how many charts stand beside each other, and their height in pixels.
_SECTIONS = {"Loss": (2, 300), "Quality": (2, 230), "Time and money": (2, 230), "What differs": (1, 320)}


def _charts() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The charts and their sections, as the page keeps them."""
    scores = [f"evaluate.{model}.{split}.{score}" for model, split in _MODELS for score in _SCORES]
    charts = [
        *(_chart("Loss", "LINE", metric) for metric in _CURVES),
        *(_chart("Quality", "BAR", metric) for metric in scores),
        *(_chart("Time and money", "BAR", metric) for metric in ("hours", "money")),
        _differences("What differs"),
    ]
    sections = [
        {"uuid": name, "name": name, "display": True, "columns": columns, "cardHeight": height}
        for name, (columns, height) in _SECTIONS.items()
    ]
    # What the page adds by itself: the pictures, and all other metrics, folded up.
    sections += [{"uuid": name, "name": name, "display": False} for name in ("pictures", "Model metrics")]
    return charts, [section | {"isReordered": False, "isGenerated": True} for section in sections]


def _chart(section: str, kind: str, metric: str) -> dict[str, Any]:
    """A line over steps, or a bar of the last value, for each run."""
    line = {
        "lineSmoothness": 0,
        "scaleType": "linear",
        "xAxisScaleType": "linear",
        "xAxisKey": "step",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "selectedXAxisMetricKey": "",
        "range": {},
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }
    about = _card(section, metric, kind) | {"metricKey": metric, "displayName": metric}
    return about | (line if kind == "LINE" else {})


def _differences(section: str) -> dict[str, Any]:
    """A table of the runs' parameters, those that differ."""
    return _card(section, "differences", "DIFFERENCE") | {
        "compareGroups": ["Parameters"],
        "chartName": "Parameters that differ",
        "showChangeFromBaseline": False,
        "showDifferencesOnly": True,
        "baselineColumnUuid": "",
    }


def _card(section: str, name: str, kind: str) -> dict[str, Any]:
    return {
        "uuid": f"minivlm-{name}",
        "type": kind,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": 10,
    }
