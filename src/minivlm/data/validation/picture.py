"""The pictures of a row: which there are, and the bytes of one -> the facts that the expectations look at."""

import io
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

# Formats that may be opened. Pillow knows more, but some of them run other programs (EPS).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
# Modes that convert to RGB without a loss of range; 16-bit ("I;16") and float ("F") pixels would be clipped.
RGB_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
DECODES = "decodes"
MAX_PICTURES = 16  # of a row; those beyond are neither read nor decoded
MAX_PICTURE_BYTES = 128 << 20  # encoded; a bitmap of 4096 x 4096 with alpha has 64 MiB

_PLACEHOLDER_SIDE = 8  # pixels, as in the original's data set
_PLACEHOLDER_BYTES = 2048  # no encoder here needs more for 8 x 8 black pixels
_ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 lie on their side
_LYING = (5, 6, 7, 8)


class PictureFacts(NamedTuple):
    """Facts of one picture; None where they cannot be known."""

    decoding: str | None  # DECODES, or what the bytes are instead; None: too large to be decoded at all
    format: str | None = None
    mode: str | None = None
    width: int | None = None  # pixels, as the picture is looked at (EXIF orientation applied)
    height: int | None = None  # pixels
    likeness: int | None = None  # its perceptual hash, where one was asked for


MISSING = PictureFacts(decoding="missing")


def row_pictures(value: Any) -> tuple[bytes | None, ...]:
    """The pictures of a row, from what stands in `image_bytes`: bytes, a list of bytes, or nothing.

    The black placeholder that the original puts into rows of text alone is no picture. None in a list of several
    is a picture that should be there.
    """
    if value is None or value == [None]:
        return ()
    listed = value if isinstance(value, list) else [value]
    return tuple(data for data in listed if data is None or not is_placeholder(data))


def is_placeholder(data: bytes) -> bool:
    """Whether this is the original's stand-in for no picture: 8 x 8 pixels, all black, in any format."""
    return 0 < len(data) <= _PLACEHOLDER_BYTES and _is_small_and_black(data)


@lru_cache(maxsize=256)
def _is_small_and_black(data: bytes) -> bool:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.size != (_PLACEHOLDER_SIDE, _PLACEHOLDER_SIDE):
                    return False
                return image.convert("RGB").getextrema() == ((0, 0),) * 3
    except Exception:  # not decodable, whatever Pillow calls it: a picture at fault, no placeholder
        return False


def picture_facts(data: bytes, max_side: int, likeness: Callable[[Any], int] | None = None) -> PictureFacts:
    """Decode one picture in full; one with a side over `max_side` pixels is not decoded, it fails by its size.

    `likeness` gives the perceptual hash of the decoded picture (minivlm.data.validation.likeness); a picture of a
    mode that is not trained on has none. Of an animation or of several pages the first is looked at, here and in
    training.
    """
    from PIL import Image, UnidentifiedImageError

    if not data:
        return PictureFacts(decoding="zero bytes")
    if len(data) > MAX_PICTURE_BYTES:
        return PictureFacts(decoding=f"a file of {len(data):,} bytes, over {MAX_PICTURE_BYTES:,}")
    facts = PictureFacts(decoding=None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF, many pixels: the facts say what matters
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                facts = PictureFacts(None, image.format, image.mode, *image.size)
                if max(image.size) > max_side:
                    return facts
                image.load()
                width, height = image.size[::-1] if _lies_on_its_side(image) else image.size
                facts = PictureFacts(DECODES, image.format, image.mode, width, height)
                return facts._replace(likeness=likeness(image)) if likeness and image.mode in RGB_MODES else facts
    except UnidentifiedImageError:
        return PictureFacts(decoding="not a picture")
    except Image.DecompressionBombError:
        return PictureFacts(decoding="decompression bomb")
    except Exception as error:
        # Pillow's decoders raise almost anything on damaged bytes (OSError, SyntaxError, struct.error ...).
        # Whichever it is, the row is at fault, and the report names it.
        truncated = "truncat" in str(error).lower()
        return facts._replace(decoding="truncated" if truncated else f"damaged ({type(error).__name__})")


def _lies_on_its_side(image: Any) -> bool:
    try:
        return image.getexif().get(_ORIENTATION) in _LYING
    except Exception:  # damaged EXIF beside sound pixels: nothing is turned
        return False
