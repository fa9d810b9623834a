"""The evaluation pictures: data/questions.json lists them with the question that each stage's model is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.scenes.world import Truth
from minivlm.errors import UserError
from minivlm.files import read_json
from minivlm.generation.opening import read_picture

if TYPE_CHECKING:
    from PIL import Image

STAGES = ("pretrain", "sft")


@dataclass(frozen=True)
class ShownPicture:
    """A picture of the table. `questions` by stage; `truth` where it is a drawn scene."""

    file: str
    path: Path
    title: str
    questions: dict[str, str]
    truth: Truth | None

    def decode(self) -> Image.Image:
        """The picture upright, as RGB; UserError when it is missing or no picture."""
        picture = read_picture(self.path)
        if isinstance(picture, str):
            raise UserError(f"{self.path}: {picture}")
        return picture


def read_questions(questions: Path, folder: Path) -> list[ShownPicture]:
    """The pictures of `folder` that `questions` lists, in its order; UserError where an entry is malformed."""
    try:
        entries = read_json(questions)
        return [_entry(entry, folder) for entry in entries]
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{questions}: {type(error).__name__}: {error}") from None


def _entry(entry: dict[str, Any], folder: Path) -> ShownPicture:
    file = entry["file"]
    if file in ("", ".", "..") or Path(file).name != file:
        raise ValueError(f"{file!r} is no name of a file in {folder.name}")
    scene = entry.get("scene")
    return ShownPicture(
        file=file,
        path=folder / file,
        title=entry["title"],
        questions={stage: entry["question"][stage] for stage in STAGES},
        truth=Truth.from_json(scene) if scene else None,
    )
