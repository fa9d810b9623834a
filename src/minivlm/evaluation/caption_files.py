"""Picture files → captions, in batches; a file that is no picture costs its own line and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from minivlm.data.pictures import upright
from minivlm.data.validation.picture import FORMATS
from minivlm.errors import UserError
from minivlm.evaluation.captions import caption_pictures

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
LARGEST = 100_000_000  # pixels of a picture
LONGEST = 100  # times as long as wide, at most: the shorter side is brought to the tower's


class Line(NamedTuple):
    """What is said of one picture, or why nothing is."""

    picture: Path
    caption: str | None
    error: str | None = None


def find_pictures(places: Sequence[Path]) -> list[Path]:
    """Files as they are named, folders as the pictures in them by name; UserError for a folder without one."""
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = sorted(each for each in place.iterdir() if each.suffix.lower() in SUFFIXES and each.is_file())
            if not inside:
                raise UserError(f"{place}: no picture in this folder ({', '.join(SUFFIXES)})")
            found += inside
        else:
            found.append(place)
    return found


def caption_files(
    model: Any, processor: Any, paths: Sequence[Path], question: str, *, batch_size: int, max_new_tokens: int
) -> Iterator[Line]:
    """One line for each path, in order; at most `batch_size` pictures are in memory at once.

    UserError when an answer could be longer than what the model has positions for.
    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or max_new_tokens
    if max_new_tokens > positions:
        raise UserError(
            f"an answer of {max_new_tokens:,} tokens: the model has {positions:,} positions; take fewer"
        )
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        read = [read_picture(path) for path in batch]
        pictures = [picture for picture in read if not isinstance(picture, str)]
        captions = iter(
            caption_pictures(
                model, processor, pictures, question, batch_size=batch_size, max_new_tokens=max_new_tokens
            )
        )
        for path, picture in zip(batch, read, strict=True):
            if isinstance(picture, str):
                yield Line(path, None, picture)
            else:
                yield Line(path, printable(next(captions)))


def printable(caption: str) -> str:
    """On one line and without control characters: a model may write any, and a terminal would obey them."""
    return " ".join("".join(c for c in caption if c.isspace() or c.isprintable()).split())


def read_picture(path: Path) -> Image.Image | str:
    """The picture as RGB, upright as its camera noted, or in words why it cannot be read."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF, many pixels: what matters is checked
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                if width * height > LARGEST or max(width, height) > LONGEST * min(width, height):
                    return f"{width} x {height} pixels: too large or too long"
                return upright(image)
    except FileNotFoundError:
        return "not found"
    except UnidentifiedImageError:
        return "not a picture"
    except Image.DecompressionBombError:
        return "a decompression bomb"
    except Exception as error:
        # Pillow's decoders raise almost anything on damaged bytes (OSError, SyntaxError, struct.error ...).
        return f"damaged: {' '.join(str(error).split())[:200] or type(error).__name__}"
