"""One stage's model on everything it is judged by: the evaluation pictures and the held-out splits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.config.section import Precision
from minivlm.evaluation.attention import attention_report
from minivlm.evaluation.heldout import Heldout, Picture
from minivlm.evaluation.image_gap import image_gap
from minivlm.evaluation.questions import ShownPicture
from minivlm.evaluation.row_loss import RowLoss
from minivlm.evaluation.scores import figures
from minivlm.generation.captions import caption_pictures
from minivlm.generation.loading import load_model

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Settings:
    """How to generate and to score; `device` and `precision` as in params.yaml."""

    batch_size: int
    max_new_tokens: int
    gap_pictures: int
    seed: int
    device: str
    precision: Precision


@dataclass(frozen=True)
class ModelRun:
    """What one model wrote and earned: captions in the order of the pictures, figures by split; `attention`: the
    content of attention.json where it was asked for."""

    shown: list[str]
    captions: dict[str, list[str]]
    figures: dict[str, dict[str, Any]]
    attention: dict[str, Any] | None = None


def run_model(
    stage: str,
    directory: Path,
    question: str,
    splits: Sequence[Heldout],
    shown: Sequence[ShownPicture],
    settings: Settings,
    say: Callable[[str], None],
    *,
    look: bool = False,
) -> ModelRun:
    """Caption and score with the model of `stage`; held-out pictures are all asked `question`.

    `look`: also tell what its words looked at in the shown pictures, and how well in `gap_pictures` of each split.
    """
    model, processor = load_model(directory, settings.device, settings.precision)

    def caption(pictures: Sequence[Image.Image], text: str) -> list[str]:
        return caption_pictures(
            model,
            processor,
            pictures,
            text,
            batch_size=settings.batch_size,
            max_new_tokens=settings.max_new_tokens,
        )

    shown_captions = [""] * len(shown)
    for text in dict.fromkeys(picture.questions[stage] for picture in shown):
        asked = [i for i, picture in enumerate(shown) if picture.questions[stage] == text]
        for i, answer in zip(asked, caption([shown[i].decode() for i in asked], text), strict=True):
            shown_captions[i] = answer
    captions, tree = {}, {}
    sampled: list[tuple[Picture, str]] = []
    for heldout in splits:
        started = time.monotonic()
        images = [picture.decode() for picture in heldout.pictures]
        captions[heldout.split] = caption(images, question)
        said = time.monotonic()
        some = heldout.sample(settings.gap_pictures)
        loss = RowLoss(model, processor, [picture.decode() for picture in some.pictures], settings.batch_size)
        said_of = dict(zip((picture.id for picture in heldout.pictures), captions[heldout.split], strict=True))
        sampled += [(picture, said_of[picture.id]) for picture in some.pictures]
        hashes = [picture.sha256 for picture in some.pictures]
        gap = image_gap(some.rows, [row.picture for row in some.rows], hashes, loss, settings.seed)
        tree[heldout.split] = figures(heldout, captions[heldout.split], gap, settings.seed)
        say(
            f"{stage} on {heldout.split}: {len(images)} captions in {said - started:.1f} s, "
            f"loss of {len(some.rows)} rows three times in {time.monotonic() - said:.1f} s"
        )
    attention = None
    if look:
        started = time.monotonic()
        attention = attention_report(stage, model, processor, shown, shown_captions, sampled, question)
        say(f"{stage}: attention of the words of {len(sampled)} captions in {time.monotonic() - started:.1f} s")
    return ModelRun(shown_captions, captions, tree, attention)
