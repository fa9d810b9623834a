"""An encoded picture -> the pixels that the vision tower sees.

The same steps as transformers' CLIPImageProcessorPil, in two halves: `decode` leaves small uint8 pixels, which a
worker hands on and a GPU receives; `to_pixel_values` scales and normalises them on the device.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch


def decode(data: bytes, side: int) -> npt.NDArray[np.uint8]:
    """The picture as RGB, (3, side, side): shorter edge resized to `side` (bicubic), then cut around the centre.

    OSError or ValueError (Pillow's) when `data` is not a picture.
    """
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(data)) as file:
        image = file.convert("RGB")
    width, height = image.size
    longer = int(side * max(width, height) / min(width, height))
    width, height = (side, longer) if width <= height else (longer, side)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    pixels = np.asarray(image)[top : top + side, left : left + side]  # (side, side, 3)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def to_pixel_values(pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """uint8 (N, 3, H, W) -> float32 (N, 3, H, W): (x / 255 - mean) / std by colour, on the same device."""
    import torch

    scale = torch.tensor(mean, device=pixels.device)[:, None, None]
    spread = torch.tensor(std, device=pixels.device)[:, None, None]
    return (pixels.to(torch.float32) / 255 - scale) / spread
