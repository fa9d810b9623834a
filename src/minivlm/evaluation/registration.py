"""The judged model → what the registry is told of it: its score, the rows that it is over, a description."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.data_uri import data_uri
from minivlm.evaluation.heldout import Heldout
from minivlm.evaluation.model_run import ModelRun
from minivlm.evaluation.questions import ShownPicture
from minivlm.evaluation.scores import rounded
from minivlm.tracking import Candidate
from minivlm.tracking.champion import FIGURES, Score

if TYPE_CHECKING:
    from PIL import Image

MAX_NEW_TOKENS = 128
"""Of an answer where nobody asks for another length: as `minivlm caption` has it, so that both say the same."""
_TOLD = ("attribute_recall", "attribute_precision", "exact_scene", "cider", "bleu", "chrf", "image_gap")
_CAPTIONS = 3  # in the description
_EXAMPLE_SIDE = 224  # pixels at most: an example is to be looked at, in a table of text


def candidate(
    name: str, stage: str, directory: Path, question: str,
    run: ModelRun, splits: Sequence[Heldout], shown: Sequence[ShownPicture],
) -> Candidate:  # fmt: skip
    """What the registry is told of the model of `stage` in `directory`; `splits[0]` is heldout.

    The example is the first evaluation picture, or a held-out one where there is none.
    """
    figures = rounded(run.figures)
    return Candidate(
        name=name,
        stage=stage,
        directory=directory,
        question=question,
        max_new_tokens=MAX_NEW_TOKENS,
        example=example_uri((shown or splits[0].pictures)[0].decode()),
        description=_description(figures, run.shown, shown),
        score=_score(figures["heldout"], splits[0]),
    )


def rows_digest(heldout: Heldout) -> str:
    """16 hex digits that name what a split's figures are over: pictures, references and truths."""
    told = [
        [picture.sha256, sorted(picture.references), picture.truth.to_json() if picture.truth else None]
        for picture in sorted(heldout.pictures, key=lambda picture: picture.sha256)
    ]
    return hashlib.sha256(json.dumps(told, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:16]


def example_uri(picture: Image.Image) -> str:
    """The picture, made small, as JPEG in a data URI."""
    small, stream = picture.copy(), io.BytesIO()
    small.thumbnail((_EXAMPLE_SIDE, _EXAMPLE_SIDE))
    small.save(stream, "JPEG", quality=85)
    return data_uri(stream.getvalue(), "JPEG")


def _score(figures: Mapping[str, Any], heldout: Heldout) -> Score | None:
    for figure in FIGURES:
        if figures.get(figure) is not None:
            return Score(figure, figures[figure], rows_digest(heldout))
    return None


def _description(
    figures: Mapping[str, Mapping[str, Any]], captions: Sequence[str], shown: Sequence[ShownPicture]
) -> str:
    """Markdown: the scores, and what the model says of the first evaluation pictures.

    Lines and no tables, which MLflow's page sets without space between the columns; the first line is plain, since
    its list of versions shows the beginning as it is.
    """
    scores = [f"{split}: {_told(tree)}" for split, tree in figures.items()]
    said = [f"- {picture.title}: {caption}" for picture, caption in zip(shown, captions, strict=True)]
    told = ["What it says of the first evaluation pictures:", "\n".join(said[:_CAPTIONS])] if said else []
    return "\n\n".join(scores + told)


def _told(tree: Mapping[str, Any]) -> str:
    found = [f"{name.replace('_', ' ')} {tree[name]:.3g}" for name in _TOLD if tree.get(name) is not None]
    return ", ".join(found) + f" ({tree['pictures']} pictures)"
