"""The stage's files for people and machines: captions.md, captions.json, samples.json, attributes.csv.

All are pure functions of pictures, captions and figures, so the same inputs give the same bytes.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minivlm.data.scenes.parse import parse_caption
from minivlm.data.scenes.world import Truth
from minivlm.evaluation.attributes import Judgement, judge
from minivlm.evaluation.heldout import Heldout
from minivlm.evaluation.questions import STAGES, ShownPicture
from minivlm.markdown import cell, image, table

SAMPLES = 20
HEADER = ("图片", "Pretrain_vlm", "SFT_vlm")


def captions_markdown(
    pictures: Sequence[ShownPicture], captions: Mapping[str, Sequence[str]], folder: Path
) -> str:
    """The original's table, 图片 | Pretrain_vlm | SFT_vlm, with pictures by their path relative to `folder`."""
    rows = []
    for i, picture in enumerate(pictures):
        source = Path(os.path.relpath(picture.path, folder)).as_posix()
        said = [cell(captions[stage][i]) for stage in STAGES]
        rows.append([image(source, picture.title, width=160), *said])
    return table(HEADER, rows, left=3)


def captions_json(pictures: Sequence[ShownPicture], captions: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """The same table for machines, with the questions asked and, for scenes, what each caption gets wrong."""
    entries = []
    for i, picture in enumerate(pictures):
        entry: dict[str, Any] = {"file": picture.file, "title": picture.title}
        for stage, texts in captions.items():
            entry[stage] = {"question": picture.questions[stage], "caption": texts[i]}
            if picture.truth:
                entry[stage]["mistakes"] = mistakes(picture.truth, texts[i])
        if picture.truth:
            entry["scene"] = picture.truth.to_json()
        entries.append(entry)
    return entries


def samples_json(
    splits: Sequence[Heldout], captions: Mapping[str, Mapping[str, Sequence[str]]]
) -> list[dict[str, Any]]:
    """About 20 held-out pictures in words alone: they may be private photographs, so no picture is written.

    `captions[stage][split]` are in the order of the split's pictures.
    """
    entries = []
    for heldout in splits:
        for i, picture in enumerate(heldout.pictures[: SAMPLES // len(splits)]):
            entry: dict[str, Any] = {"picture": picture.id, "references": list(picture.references)}
            for stage, of_split in captions.items():
                entry[stage] = {"caption": of_split[heldout.split][i]}
                if picture.truth:
                    entry[stage]["mistakes"] = mistakes(picture.truth, entry[stage]["caption"])
            entries.append(entry)
    return entries


def mistakes(truth: Truth, caption: str) -> list[dict[str, Any]]:
    """What a caption gets wrong, leaves out (`stated` null) or makes up (`true` null)."""
    return [_plain(judgement) for judgement in judge(truth, parse_caption(caption)) if not judgement.right]


def _plain(judgement: Judgement) -> dict[str, Any]:
    named = {"attribute": judgement.attribute, "true": judgement.true, "stated": judgement.stated}
    return named if judgement.kind is None else named | {"of": judgement.kind}


def attributes_csv(metrics: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Recall by stage, split and kind of attribute, beside its baseline; only the header without scenes.

    `metrics` is the tree of metrics.json, already rounded.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["stage", "split", "attribute", "recall", "shuffled_recall"])
    for stage, of_stage in metrics.items():
        for split, tree in of_stage.items():
            for attribute, recall in tree.get("by_attribute", {}).items():
                writer.writerow([stage, split, attribute, recall, tree["shuffled_by_attribute"][attribute]])
    return stream.getvalue()
