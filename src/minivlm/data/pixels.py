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
        images, stay = self._held(ids)
        if stay:
            return np.stack([as_pixels(image) for image in images])
        pixels = np.empty((len(ids), 3, side, side), dtype=np.uint8)
        held = len(images)
        for number in reversed(range(held)):  # none lives on: a large one takes a hundred times its place here
            pixels[number] = prepared(images.pop(), self.preparation)
        for place, i in zip(pixels[held:], ids[held:], strict=True):
            place[:] = prepared(self._decoded(int(i)), self.preparation)
        return pixels

    def _held(self, ids: npt.NDArray[np.integer]) -> tuple[list[Image.Image], bool]:
        """The pictures as far as they may stay as they are, with the first that may not; whether all may."""
        images: list[Image.Image] = []
        if self.left_to_device is None:
            return images, False
        for i in ids:
            images.append(self._decoded(int(i)))
            if not self._stays(images):
                return images, False
        return images, bool(images)

    def _stays(self, images: list[Image.Image]) -> bool:
        """Whether the last may, where those before it do."""
        if len(images) > 1:
            return images[-1].size == images[0].size
        width, height = images[0].size
        return (
            width * height < self.preparation.side**2
            and self.left_to_device is not None
            and self.left_to_device(height, width)
        )

    def _decoded(self, i: int) -> Image.Image:
        try:
            return read_upright(self.pictures.bytes(i))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{self.pictures.directory}: picture {i} cannot be decoded: {reason}") from None
