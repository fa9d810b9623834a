"""An encoded picture -> the pixels that the vision tower sees.

The same steps as transformers' image processors on Pillow, in two halves: `decode` leaves small uint8 pixels,
which a worker hands on and a GPU receives; the objective normalises them there (`model.vision_language`).
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from minivlm.data.strict_json import shown
from minivlm.errors import UserError
from minivlm.files import read_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

BICUBIC = 3  # Pillow's number of the filter
_FILTERS = (0, 1, 2, 3, 4, 5)
_LONGEST_EDGE = 16_384  # pixels; no tower takes a tenth of it


class Preparation(NamedTuple):
    """How a tower wants its pictures: square, `side` pixels wide.

    CLIP resizes the shorter edge to `edge` pixels and cuts `side` around the centre; SigLIP stretches the whole
    picture (`edge` None). `resample`: Pillow's number of the filter.
    """

    side: int
    edge: int | None
    resample: int = BICUBIC

    @classmethod
    def read(cls, vision_tower: Path) -> Preparation:
        """What preprocessor_config.json in the tower's directory says; UserError for what is not done here."""
        path = vision_tower / "preprocessor_config.json"
        try:
            values = read_json(path)
        except FileNotFoundError:
            raise UserError(f"{path}: not found; run the base stage first: dvc repro base") from None
        except (ValueError, RecursionError):
            raise UserError(f"{path}: not JSON") from None
        if not isinstance(values, dict):
            raise UserError(f"{path}: not a JSON object")
        return cls.of(values, str(path))

    @classmethod
    def of(cls, values: Mapping[str, Any], name: str) -> Preparation:
        """The values of a preprocessor_config.json, `size` and `crop_size` spelt out; `name`: for messages.

        UserError for what is not done here, and for values of another type.
        """
        needed = ("do_resize", "do_rescale", "do_normalize")
        missing = [key for key in needed if values.get(key) is not True]
        if missing:
            raise UserError(f"{name}: {' and '.join(missing)} must be true")
        factor = values.get("rescale_factor", 1 / 255)
        if not isinstance(factor, float) or not math.isclose(factor, 1 / 255, rel_tol=1e-6):
            raise UserError(f"{name}: rescale_factor must be 1/255, not {shown(repr(factor))}")
        size, resample = values.get("size"), values.get("resample", BICUBIC)
        if not isinstance(size, Mapping) or type(resample) is not int or resample not in _FILTERS:
            said = f"size {shown(repr(size))} and resample {shown(repr(resample))}"
            raise UserError(f"{name}: {said} say no way to resize a picture")
        if values.get("do_center_crop"):
            side, edge = _square(values.get("crop_size")), size.get("shortest_edge")
            if side and set(size) == {"shortest_edge"} and type(edge) is int and side <= edge <= _LONGEST_EDGE:
                return cls(side, edge, resample)
        elif side := _square(size):
            return cls(side, None, resample)
        raise UserError(
            f"{name}: pictures must become squares, by shortest_edge and a centre crop (CLIP) or by height and "
            f"width without one (SigLIP), not by {shown(repr(dict(size)))}"
        )


def _square(size: Any) -> int | None:
    """The side of a square given by height and width alone, in whole pixels; None for anything else."""
    if not isinstance(size, Mapping) or set(size) != {"height", "width"}:
        return None
    side = size["height"]
    return side if type(side) is int and 0 < side <= _LONGEST_EDGE and side == size["width"] else None


def upright(image: Image.Image) -> Image.Image:
    """A picture as RGB, turned as its EXIF orientation says: what transformers' `load_image` makes of it.

    Damaged EXIF beside sound pixels turns nothing, here as in the gate.
    """
    from PIL import ImageOps

    image.load()  # the caller may close the file
    with contextlib.suppress(Exception):  # SyntaxError, struct.error, whatever Pillow meets in such bytes
        ImageOps.exif_transpose(image, in_place=True)
    return image if image.mode == "RGB" else image.convert("RGB")


def decode(data: bytes, preparation: Preparation | int) -> npt.NDArray[np.uint8]:
    """The picture upright as RGB, (3, side, side), resized and cut as `preparation` says.

    A number is a side: the shorter edge is resized to it and the middle cut out, as the CLIP made here wants it.
    OSError or ValueError (Pillow's) when `data` is not a picture.
    """
    if isinstance(preparation, int):
        preparation = Preparation(preparation, preparation)
    return prepared(read_upright(data), preparation)


def read_upright(data: bytes) -> Image.Image:
    """An encoded picture as RGB, turned upright, in its own size; OSError or ValueError when it is none."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as file:
        return upright(file)


def as_pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    """An RGB picture's pixels, (3, H, W)."""
    import numpy as np

    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def prepared(image: Image.Image, preparation: Preparation) -> npt.NDArray[np.uint8]:
    """(3, side, side) of an RGB picture, resized and cut."""
    from PIL import Image

    side, edge, resample = preparation
    width, height = image.size
    if edge is None:
        width, height = side, side
    else:
        longer = int(edge * max(width, height) / min(width, height))
        width, height = (edge, longer) if width <= height else (longer, edge)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling(resample))
    left, top = (width - side) // 2, (height - side) // 2
    return as_pixels(image.crop((left, top, left + side, top + side)) if image.size != (side, side) else image)
