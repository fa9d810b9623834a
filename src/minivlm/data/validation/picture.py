"""The bytes of one picture -> the facts that the expectations look at. The picture is decoded in full."""

import io
import warnings
from typing import NamedTuple

# Formats that may be opened. Pillow knows more, but some of them run other programs (EPS).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
# Modes that convert to RGB without a loss of range; 16-bit ("I;16") and float ("F") pixels would be clipped.
RGB_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
DECODES = "decodes"


class PictureFacts(NamedTuple):
    """Facts of one picture; None where they cannot be known."""

    decoding: str | None  # DECODES, or what the bytes are instead; None: too large to be decoded at all
    format: str | None = None
    mode: str | None = None
    width: int | None = None  # pixels
    height: int | None = None  # pixels


MISSING = PictureFacts(decoding="missing")


def picture_facts(data: bytes, max_side: int) -> PictureFacts:
    """Decode one picture; one with a side over `max_side` pixels is not decoded, it fails by its size alone."""
    from PIL import Image, UnidentifiedImageError

    if not data:
        return PictureFacts(decoding="zero bytes")
    facts = PictureFacts(decoding=None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF, many pixels: the facts say what matters
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                facts = PictureFacts(None, image.format, image.mode, *image.size)
                if max(image.size) > max_side:
                    return facts
                image.load()
                return facts._replace(decoding=DECODES, mode=image.mode)
    except UnidentifiedImageError:
        return PictureFacts(decoding="not a picture")
    except Image.DecompressionBombError:
        return PictureFacts(decoding="decompression bomb")
    except Exception as error:
        # Pillow's decoders raise almost anything on damaged bytes (OSError, SyntaxError, struct.error ...).
        # Whichever it is, the row is at fault, and the report names it.
        truncated = "truncat" in str(error).lower()
        return facts._replace(decoding="truncated" if truncated else f"damaged ({type(error).__name__})")
