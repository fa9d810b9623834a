"""Picture files → captions, in batches; a file that is no picture costs its own line and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from minivlm.generation.captions import caption_pictures
from minivlm.generation.opening import read_picture
from minivlm.generation.prompts import room
from minivlm.generation.speed import Meter

if TYPE_CHECKING:
    from PIL import Image

PIPED = Path("-")
"""What a picture that came by standard input is called."""


class Line(NamedTuple):
    """What is said of one picture, or why nothing is; `picture` is `-` for one that was piped in."""

    picture: Path
    caption: str | None
    error: str | None = None


def caption_files(
    model: Any,
    processor: Any,
    sources: Sequence[Path | bytes],
    question: str,
    *,
    batch_size: int,
    max_new_tokens: int,
    meter: Meter | None = None,
) -> Iterator[Line]:
    """One line for each file or encoded picture, in order; one of them is decoded at a time.

    `meter` is told of every token. UserError when the model has no positions for the question and the answer.
    """
    check_length(model, max_new_tokens)
    for start in range(0, len(sources), batch_size):
        batch = sources[start : start + batch_size]
        faults: dict[int, str] = {}
        captions = iter(
            caption_pictures(
                model,
                processor,
                _readable(batch, faults),
                question,
                batch_size=batch_size,
                max_new_tokens=max_new_tokens,
                meter=meter,
            )
        )
        for number, source in enumerate(batch):
            path = PIPED if isinstance(source, bytes) else source
            if number in faults:
                yield Line(path, None, faults[number])
            else:
                yield Line(path, printable(next(captions)))


def _readable(sources: Sequence[Path | bytes], faults: dict[int, str]) -> Iterator[Image.Image]:
    """The pictures, each decoded when it is asked for; what is none stands in `faults` by its number."""
    for number, source in enumerate(sources):
        picture = read_picture(source)
        if isinstance(picture, str):
            faults[number] = picture
        else:
            yield picture
        del picture  # or it would be held while the next one is decoded


def check_length(model: Any, max_new_tokens: int) -> None:
    """UserError when the model has no positions for such an answer, whatever is asked: known before all else."""
    room(model, 0, max_new_tokens)


def printable(caption: str) -> str:
    """On one line and without control characters: a model may write any, and a terminal would obey them."""
    return " ".join("".join(c for c in caption if c.isspace() or c.isprintable()).split())
