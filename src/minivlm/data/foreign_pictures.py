"""How a tower by somebody else wants its pictures, in any form since 2021 -> one form with every value in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minivlm.data.strict_json import shown
from minivlm.data.tokenizer_files import read_mapping
from minivlm.errors import UserError

_SMALLEST, _LARGEST = 1e-6, 1e6  # deviation or mean of a colour; known ones are 0.2 to 0.6


def preparation_values(source: Path, side: int) -> dict[str, Any]:
    """A preprocessor_config.json with every value spelt out, from whichever form the source has it in.

    `side`: of the pictures that the tower takes, in pixels. UserError where there is none, and for colours that
    are no numbers; the other values are for `minivlm.data.pictures.Preparation.of` to check.
    """
    name = source / "preprocessor_config.json"
    values = read_mapping(name) or read_mapping(source / "processor_config.json").get("image_processor")
    if not isinstance(values, dict) or not values:
        raise UserError(f"{name}: not found; it says how pictures are prepared")
    kind = str(values.get("image_processor_type") or values.get("feature_extractor_type") or "")
    is_clip = "CLIP" in kind or bool(values.get("do_center_crop"))
    square = {"height": side, "width": side}
    size, crop = values.get("size"), values.get("crop_size")
    if "Siglip2" in kind or size is None:  # NaFlex sizes depend on the picture: the native square is taken
        size = {"shortest_edge": side} if is_clip else square
    elif isinstance(size, int):  # as files of 2021 have it
        size = {"shortest_edge": size} if is_clip else {"height": size, "width": size}
    if isinstance(crop, int) or crop is None:
        crop = {"height": crop or side, "width": crop or side}
    crops = bool(values.get("do_center_crop", is_clip))
    default = 3 if is_clip or "Siglip2" not in kind else 2  # Pillow's bicubic, bilinear
    mean, deviation = (_by_colour(values, key, str(name)) for key in ("image_mean", "image_std"))
    if min(deviation) < _SMALLEST:
        raise UserError(f"{name}: image_std must be above 0, not {deviation}")
    return {
        "image_processor_type": "CLIPImageProcessor" if is_clip else "SiglipImageProcessor",
        "do_convert_rgb": True,
        "do_resize": values.get("do_resize", True),
        "size": size,
        "resample": values.get("resample", default),
        "do_center_crop": crops,
        "crop_size": crop if crops else square,
        "do_rescale": values.get("do_rescale", True),
        "rescale_factor": values.get("rescale_factor", 1 / 255),
        "do_normalize": values.get("do_normalize", True),
        "image_mean": mean,
        "image_std": deviation,
    }


def _by_colour(values: Mapping[str, Any], key: str, name: str) -> list[float]:
    """One number for each of red, green and blue."""
    found = values.get(key)
    if (
        not isinstance(found, list)
        or len(found) != 3
        or not all(type(each) in (int, float) and abs(each) <= _LARGEST for each in found)
    ):
        raise UserError(f"{name}: {key} must be three numbers, of red, green and blue; it is {shown(repr(found))}")
    return found
