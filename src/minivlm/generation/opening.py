"""A picture file or encoded bytes → an upright RGB picture of bounded memory, or in words why there is none.

Up to `LARGE` pixels a picture is as its file has it. A larger one is halved, once or twice, while it is
decoded: the processor would take 13 bytes for each of its pixels, 1.3 GB for the largest.
"""

from __future__ import annotations

import contextlib
import io
import stat
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from minivlm.data.pictures import upright
from minivlm.data.validation.picture import FORMATS, MAX_PICTURE_BYTES

if TYPE_CHECKING:
    from PIL import Image

LARGEST = 100_000_000  # pixels of a picture
LARGEST_BUFFERED = 30_000_000  # of a kind whose decoder holds 8 to 15 bytes a pixel; the others at most 5.2
_BUFFERED = ("WEBP", "TIFF", "progressive JPEG")
LONGEST = 100  # times as long as wide, at most: the shorter side is brought to the tower's
LARGE = 20_000_000  # pixels, beyond which a picture is halved
_STRIP = 1024  # rows that are converted at once; a multiple of every factor
_ORIENTATION = 0x0112  # the EXIF tag
_PILLOW = r"PIL\."  # modules whose warnings are not shown
T = TypeVar("T")

_one_large = threading.Lock()
"""Of all threads that ask, one has the pixels of a large picture in memory."""


def read_picture(source: Path | bytes) -> Image.Image | str:
    """The picture as RGB, upright as its camera noted, or in words why it cannot be read."""
    return _opened(source, _decoded)


def picture_size(source: Path | bytes) -> tuple[int, int] | str:
    """Width and height as its header says, nothing decoded; or in words why it cannot be read."""
    return _opened(source, lambda image: image.size)


def _opened(source: Path | bytes, use: Callable[[Image.Image], T]) -> T | str:
    """What `use` makes of a file or of encoded bytes, or in words why they cannot be read."""
    from PIL import Image, UnidentifiedImageError

    _silence_pillow()
    try:
        if fault := _no_file(source) if isinstance(source, Path) else _too_many(len(source)):
            return fault
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            return _beyond(image) or use(image)
    except FileNotFoundError:
        return "not found"
    except UnidentifiedImageError:
        return "not a picture"
    except Image.DecompressionBombError:
        return "a decompression bomb"
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's: no right to read it, a bad disk
            return f"cannot be read: {error.strerror}"
        # Pillow's decoders raise almost anything on damaged bytes (OSError, SyntaxError, struct.error ...).
        return f"damaged: {' '.join(str(error).split())[:200] or type(error).__name__}"


def _no_file(path: Path) -> str:
    """Why a path is not to be opened: reading a named pipe or a device may never end."""
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        return "a folder, and no picture"
    if not stat.S_ISREG(found.st_mode):
        return "a named pipe, a socket or a device, and no file"
    return _too_many(found.st_size)


def _beyond(image: Image.Image) -> str:
    """What of an opened picture is beyond the limits."""
    width, height = image.size
    kind = f"{'progressive ' if image.info.get('progressive') else ''}{image.format}"
    most = LARGEST_BUFFERED if kind in _BUFFERED else LARGEST
    if width * height > most:
        return f"{width} x {height} pixels: too large, a {kind} may have {most:,}"
    if max(width, height) > LONGEST * min(width, height):
        return f"{width} x {height} pixels: more than {LONGEST} times as long as wide"
    return ""


def _too_many(size: int) -> str:
    return f"more than {MAX_PICTURE_BYTES:,} bytes" if size > MAX_PICTURE_BYTES else ""


def _decoded(image: Image.Image) -> Image.Image:
    factor = 1
    while image.width * image.height > LARGE * factor**2:
        factor *= 2
    if factor == 1:
        return upright(image)
    with _one_large:
        return upright(_reduced(image, factor))


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    """The opened picture as RGB, each side divided by a power of two, to be turned as it says.

    A JPEG is decoded so small at once (`draft`). Others are decoded whole, and then converted strip by strip:
    a second copy of all pixels is never made.
    """
    from PIL import Image

    longer = max(image.size)
    image.draft(image.mode, (image.width // factor, image.height // factor))
    image.load()  # a TIFF is turned here already
    factor //= round(longer / max(image.size))
    small = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    for top in range(0, image.height, _STRIP):
        strip = image.crop((0, top, image.width, min(top + _STRIP, image.height)))
        small.paste(strip.convert("RGB").reduce(factor), (0, top // factor))
    small.getexif()[_ORIENTATION] = _orientation(image)
    return small


def _orientation(image: Image.Image) -> int:
    """As EXIF notes it; 1, upright, where it is damaged."""
    with contextlib.suppress(Exception):  # SyntaxError, struct.error, whatever Pillow meets in such bytes
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _silence_pillow() -> None:
    """Once for the process: of damaged EXIF and many pixels what matters is checked.

    `warnings.catch_warnings` puts back what another thread has changed meanwhile; servers read in several.
    """
    if not any(getattr(place, "pattern", None) == _PILLOW for *_, place, _ in warnings.filters):
        warnings.filterwarnings("ignore", module=_PILLOW)
