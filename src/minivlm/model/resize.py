"""Pictures resized on the device, to the very bytes that Pillow makes of them.

Pillow resizes columns, then rows, each as a weighted sum of neighbours in fixed-point numbers of 22 bits, rounded
to uint8 after each of the two. Both sums are matrix products here. A weight has 24 bits, more than a product of
floats keeps exactly beside a pixel of 8; so it is cut into three numbers of 8 bits, whose products a float32 sums
exactly (with TF32 too), and put together again as an integer. A test compares every byte.

What it is for: small pictures enlarged for a large tower (128 → 224 pixels) take a third of the bytes to the
device, and no time of the processes that decode them.

`N` pictures, `H` and `W` their sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch

BILINEAR, BICUBIC = 2, 3  # Pillow's numbers
_BITS = 22  # of a weight behind the point
_WIDEST = 32  # neighbours that a float32 sums exactly: 255 * 255 * 32 < 2 ** 24


def can_resize(height: int, width: int, side: int, edge: int | None, resample: int) -> bool:
    """Whether `resize` does it: bilinear or bicubic, and no sum over more neighbours than it is exact for."""
    if resample not in _FILTERS:
        return False
    support = _FILTERS[resample][1]
    rows, columns = _sides(height, width, side, edge)
    return all(
        2 * math.ceil(support * max(1.0, before / after)) + 1 <= _WIDEST
        for before, after in ((height, rows), (width, columns))
    )


def resizer(preparation: tuple[int, int | None, int]) -> Callable[[int, int], bool]:
    """`can_resize` as a question about height and width alone, for worker processes."""
    side, edge, resample = preparation
    return partial(can_resize, side=side, edge=edge, resample=resample)


def resize(pixels: torch.Tensor, side: int, edge: int | None, resample: int = BICUBIC) -> torch.Tensor:
    """uint8 (N, 3, H, W) → uint8 (N, 3, side, side), as `minivlm.data.pictures.decode` prepares one picture.

    The shorter edge becomes `edge` and the middle is cut out; without `edge` the whole picture is stretched. The
    caller asks `can_resize` first.
    """
    height, width = pixels.shape[-2:]
    rows, columns = _sides(height, width, side, edge)
    top, left = (rows - side) // 2, (columns - side) // 2
    with torch.no_grad(), torch.autocast(pixels.device.type, enabled=False):
        across = _weights(width, columns, left, side, resample, pixels.device)
        down = _weights(height, rows, top, side, resample, pixels.device)
        return _weighted(_weighted(pixels, across).mT, down).mT.contiguous()


def _sides(height: int, width: int, side: int, edge: int | None) -> tuple[int, int]:
    """Height and width before the middle is cut out."""
    if edge is None:
        return side, side
    longer = int(edge * max(width, height) / min(width, height))
    return (longer, edge) if width <= height else (edge, longer)


def _weighted(pixels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """uint8 (…, before) by the three parts of the weights, (3, before, after) → uint8 (…, after)."""
    values: torch.Tensor = pixels.float()
    total: Any = 1 << (_BITS - 1)  # no tensor: to send one to a GPU, the CPU waits for all that is under way there
    for part, shift in zip(weights, (0, 8, 16), strict=True):
        total = total + ((values @ part).to(torch.int32) << shift)
    return (total >> _BITS).clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=256)
def _weights(before: int, after: int, first: int, count: int, resample: int, device: torch.device) -> torch.Tensor:
    """(3, before, count) float32: low, middle and high 8 bits of the weights of `count` outputs from `first`."""
    function, support = _FILTERS[resample]
    scale = before / after
    stretch = max(scale, 1.0)
    fixed = torch.zeros(before, count, dtype=torch.int64)
    if before == after:  # Pillow leaves that direction out
        fixed[torch.arange(first, first + count), torch.arange(count)] = 1 << _BITS
        return _parts(fixed, device)
    reach = support * stretch
    for column in range(count):
        centre = (first + column + 0.5) * scale
        low, high = max(0, int(centre - reach + 0.5)), min(before, int(centre + reach + 0.5))
        found = [function((place - centre + 0.5) / stretch) for place in range(low, high)]
        total = sum(found)
        for place, weight in zip(range(low, high), found, strict=True):
            value = weight / total * (1 << _BITS) if total else 0.0
            fixed[place, column] = int(value + math.copysign(0.5, value))  # half away from zero
    return _parts(fixed, device)


def _parts(fixed: torch.Tensor, device: torch.device) -> torch.Tensor:
    return torch.stack([fixed & 255, (fixed >> 8) & 255, fixed >> 16]).float().to(device)


def _bilinear(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def _bicubic(x: float) -> float:
    """Keys' cubic convolution with a = -1/2."""
    x, a = abs(x), -0.5
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    return (((x - 5.0) * x + 8.0) * x - 4.0) * a if x < 2.0 else 0.0


_FILTERS: dict[int, tuple[Callable[[float], float], float]] = {
    BILINEAR: (_bilinear, 1.0),
    BICUBIC: (_bicubic, 2.0),
}
"""Filter and half its width in pixels, by Pillow's number."""
