"""Picture files → captions, in batches; a file that is no picture costs its own line and nothing else."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from minivlm.data.pictures import upright
from minivlm.data.validation.picture import FORMATS, MAX_PICTURE_BYTES
from minivlm.generation.captions import caption_pictures
from minivlm.generation.prompts import room
from minivlm.generation.speed import Meter

if TYPE_CHECKING:
    from PIL import Image

_PILLOW = r"PIL\."  # modules whose warnings are not shown
T = TypeVar("T")
PIPED = Path("-")
"""Standard input, among the places, and a picture that came by it."""

LARGEST = 100_000_000  # pixels of a picture
LONGEST = 100  # times as long as wide, at most: the shorter side is brought to the tower's


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


def read_picture(source: Path | bytes) -> Image.Image | str:
    """The picture as RGB, upright as its camera noted, or in words why it cannot be read."""
    return _opened(source, upright)


def picture_size(source: Path | bytes) -> tuple[int, int] | str:
    """Width and height as its header says, nothing decoded; or in words why it cannot be read."""
    return _opened(source, lambda image: image.size)


def _opened(source: Path | bytes, use: Callable[[Image.Image], T]) -> T | str:
    """What `use` makes of a file or of encoded bytes, or in words why they cannot be read."""
    from PIL import Image, UnidentifiedImageError

    _silence_pillow()
    try:
        if isinstance(source, bytes) and len(source) > MAX_PICTURE_BYTES:
            return f"more than {MAX_PICTURE_BYTES:,} bytes"
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            width, height = image.size
            if width * height > LARGEST or max(width, height) > LONGEST * min(width, height):
                return f"{width} x {height} pixels: too large or too long"
            return use(image)
    except FileNotFoundError:
        return "not found"
    except UnidentifiedImageError:
        return "not a picture"
    except Image.DecompressionBombError:
        return "a decompression bomb"
    except Exception as error:
        # Pillow's decoders raise almost anything on damaged bytes (OSError, SyntaxError, struct.error ...).
        return f"damaged: {' '.join(str(error).split())[:200] or type(error).__name__}"


def _silence_pillow() -> None:
    """Once for the process: of damaged EXIF and many pixels what matters is checked.

    `warnings.catch_warnings` puts back what another thread has changed meanwhile; servers read in several.
    """
    if not any(getattr(place, "pattern", None) == _PILLOW for *_, place, _ in warnings.filters):
        warnings.filterwarnings("ignore", module=_PILLOW)
