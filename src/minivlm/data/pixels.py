"""Pictures of the store -> uint8 pixels of a batch, decoded once each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minivlm.data.pictures import Preparation, as_pixels, prepared, read_upright
from minivlm.data.store import PictureStore
from minivlm.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image


@dataclass(frozen=True)
class PixelReader:
    """Decodes pictures, and prepares them for the tower unless the device does.

    `left_to_device(height, width)`: whether the device resizes such pictures, with the same result. Pictures of
    one size, smaller than the tower's, are then left as they are: fewer bytes to copy, less time of this process.
    """

    pictures: PictureStore
    preparation: Preparation
    left_to_device: Callable[[int, int], bool] | None = None

    def read(self, ids: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """(N, 3, side, side) of some pictures, or (N, 3, H, W); UserError when one cannot be decoded."""
        import numpy as np

        side = self.preparation.side
        images = [self._decoded(int(i)) for i in ids]
        if images and self._stay(images):
            return np.stack([as_pixels(image) for image in images])
        pixels = np.empty((len(images), 3, side, side), dtype=np.uint8)
        for place, image in zip(pixels, images, strict=True):
            place[:] = prepared(image, self.preparation)
        return pixels

    def _stay(self, images: list[Image.Image]) -> bool:
        width, height = images[0].size
        side = self.preparation.side
        return (
            self.left_to_device is not None
            and width * height < side * side
            and all(image.size == (width, height) for image in images)
            and self.left_to_device(height, width)
        )

    def _decoded(self, i: int) -> Image.Image:
        try:
            return read_upright(self.pictures.bytes(i))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{self.pictures.directory}: picture {i} cannot be decoded: {reason}") from None
