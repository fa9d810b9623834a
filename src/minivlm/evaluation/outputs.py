"""What the stage leaves behind: the files of reports/evaluate/ and their copies in MLflow, and all captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minivlm.evaluation.attention import dump
from minivlm.evaluation.heldout import Heldout
from minivlm.evaluation.model_run import ModelRun
from minivlm.evaluation.questions import ShownPicture
from minivlm.evaluation.scores import flattened, rounded
from minivlm.evaluation.tables import attributes_csv, captions_json, captions_markdown, samples_json
from minivlm.files import read_json, write_json, write_text

FILES = ("metrics.json", "captions.md", "captions.json", "samples.json", "attributes.csv", "attention.json")


def write_outputs(
    folder: Path, runs: Mapping[str, ModelRun], splits: Sequence[Heldout], shown: Sequence[ShownPicture]
) -> None:
    """Write `FILES` into `folder`; `runs` by stage."""
    metrics = rounded({stage: run.figures for stage, run in runs.items()})
    captions = {stage: run.shown for stage, run in runs.items()}
    write_json(folder / "metrics.json", metrics)
    write_text(folder / "captions.md", captions_markdown(shown, captions, folder))
    write_json(folder / "captions.json", captions_json(shown, captions))
    write_json(folder / "samples.json", samples_json(splits, {stage: run.captions for stage, run in runs.items()}))
    write_text(folder / "attributes.csv", attributes_csv(metrics))
    write_text(folder / "attention.json", dump(runs["sft"].attention or {}))


def write_predictions(file: Path, runs: Mapping[str, ModelRun], splits: Sequence[Heldout]) -> None:
    """Write what every model said of every held-out picture: a list of picture, sha256 and caption by stage."""
    predictions = [
        {"picture": picture.id, "sha256": picture.sha256}
        | {stage: run.captions[split.split][i] for stage, run in runs.items()}
        for split in splits
        for i, picture in enumerate(split.pictures)
    ]
    write_json(file, predictions)


def log_outputs(tracker: Any, folder: Path, runs: Mapping[str, ModelRun], shown: Sequence[ShownPicture]) -> None:
    """Log figures, files, and the evaluation pictures: as images and as a table with both captions."""
    tracker.log_metrics(flattened(read_json(folder / "metrics.json")))
    for name in FILES:
        tracker.log_artifact(folder / name, "evaluate")
    for picture in shown:
        tracker.log_image(picture.path, f"pictures/{Path(picture.file).stem}")
    tracker.log_table(
        {
            "title": [picture.title for picture in shown],
            "picture": [picture.decode() for picture in shown],
            # The last stage's first: the page opens the table with it.
            **{f"{stage} caption": runs[stage].shown for stage in reversed(list(runs))},
        },
        "captions.json",
    )
