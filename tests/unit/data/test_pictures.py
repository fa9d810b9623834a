"""Decoding and normalising against transformers' own image processor."""

import io

import numpy as np
import pytest
from PIL import Image

from minivlm.data.pictures import decode, to_pixel_values
from tests.unit.data.toys import picture

SIZES = [(32, 32), (16, 16), (50, 32), (32, 51), (97, 41), (33, 200), (7, 9), (1, 5)]


@pytest.mark.parametrize("side", [32, 31])
@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_the_clip_processor(size, side):
    import torch
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    data = picture(1, size, "JPEG")
    processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    expected = processor(images=Image.open(io.BytesIO(data)), return_tensors="pt")["pixel_values"]
    pixels = torch.from_numpy(decode(data, side))[None]
    assert pixels.dtype == torch.uint8 and pixels.shape == (1, 3, side, side)
    found = to_pixel_values(pixels, processor.image_mean, processor.image_std)
    torch.testing.assert_close(found, expected.to(torch.float32), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_every_mode_becomes_rgb_as_in_the_clip_processor(mode):
    import torch
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    data = picture(2, (40, 30), "JPEG" if mode == "CMYK" else "PNG", mode)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    processor.do_rescale = processor.do_normalize = False
    expected = processor(images=Image.open(io.BytesIO(data)), return_tensors="pt")["pixel_values"]
    assert torch.equal(torch.from_numpy(decode(data, 24))[None], expected.to(torch.uint8))


def test_what_is_not_a_picture_is_an_error():
    with pytest.raises(OSError, match="cannot identify"):
        decode(b"no picture", 16)


def test_decoded_pixels_can_be_written_and_lie_together():
    pixels = decode(picture(3), 16)
    assert pixels.flags.c_contiguous and pixels.dtype == np.uint8
