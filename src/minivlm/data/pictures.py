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

from minivlm.errors import UserError
from minivlm.files import read_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

BICUBIC = 3  # Pillow's number of the filter
_FILTERS = (0, 1, 2, 3, 4, 5)


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
        except ValueError:
            raise UserError(f"{path}: not JSON") from None
        return cls.of(values, str(path))

    @classmethod
    def of(cls, values: Mapping[str, Any], name: str) -> Preparation:
        """The values of a preprocessor_config.json, `size` and `crop_size` spelt out; `name`: for messages."""
        needed = ("do_resize", "do_rescale", "do_normalize")
        missing = [key for key in needed if values.get(key) is not True]
        if missing:
            raise UserError(f"{name}: {' and '.join(missing)} must be true")
        if not math.isclose(float(values.get("rescale_factor", 1 / 255)), 1 / 255, rel_tol=1e-6):
            raise UserError(f"{name}: rescale_factor must be 1/255, not {values['rescale_factor']}")
        size, resample = values.get("size"), values.get("resample", BICUBIC)
        if not isinstance(size, Mapping) or resample not in _FILTERS:
            raise UserError(f"{name}: size {size!r} and resample {resample!r} say no way to resize a picture")
        if values.get("do_center_crop"):
            crop, edge = values.get("crop_size") or {}, size.get("shortest_edge")
            side = crop.get("height")
            if edge and side and set(size) == {"shortest_edge"} and side == crop.get("width") and edge >= side:
                return cls(int(side), int(edge), int(resample))
        else:
            side = size.get("height")
            if side and side == size.get("width"):
                return cls(int(side), None, int(resample))
        raise UserError(
            f"{name}: pictures must become squares, by shortest_edge and a centre crop (CLIP) or by height and "
            f"width without one (SigLIP), not by {dict(size)}"
        )


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
