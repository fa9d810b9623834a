"""Decoding and normalising against transformers' own image processor."""

import io

import numpy as np
import pytest
from PIL import Image

from minivlm.data.pictures import Preparation, decode, upright
from minivlm.errors import UserError
from tests.unit.data.toys import picture

SIZES = [(32, 32), (16, 16), (50, 32), (32, 51), (97, 41), (33, 200), (7, 9), (1, 5)]


def normalized(pixels, processor):
    """As the objective does it on the device."""
    from minivlm.model.vision_language import scale_and_shift

    scale, shift = scale_and_shift(processor.image_mean, processor.image_std)
    return pixels * scale + shift


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
    found = normalized(pixels, processor)
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


PROCESSORS = {
    "clip": ("CLIPImageProcessorPil", {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}),
    "clip, cut from a larger one": (
        "CLIPImageProcessorPil",
        {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, "resample": 2},
    ),
    "siglip": ("SiglipImageProcessorPil", {"size": {"height": 32, "width": 32}}),
    "siglip, bilinear": ("SiglipImageProcessorPil", {"size": {"height": 31, "width": 31}, "resample": 2}),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", PROCESSORS)
def test_pixels_are_those_of_the_processor_that_the_file_describes(kind, size, tmp_path):
    import torch
    import transformers

    name, values = PROCESSORS[kind]
    processor = getattr(transformers, name)(**values)
    processor.save_pretrained(tmp_path)
    preparation = Preparation.read(tmp_path)
    data = picture(1, size, "JPEG")
    expected = processor(images=Image.open(io.BytesIO(data)), return_tensors="pt")["pixel_values"]
    pixels = torch.from_numpy(decode(data, preparation))[None]
    found = normalized(pixels, processor)
    torch.testing.assert_close(found, expected.to(torch.float32), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_resize": False}, "do_resize must be true"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor must be 1/255"),
        ({"size": {"height": 32, "width": 16}}, "must become squares"),
        ({"size": {"longest_edge": 32}}, "must become squares"),
        ({"size": 32}, "no way to resize"),
        ({"resample": "nearest"}, "no way to resize"),
        (
            {"do_center_crop": True, "size": {"shortest_edge": 16}, "crop_size": {"height": 32, "width": 32}},
            "squares",
        ),
    ],
)
def test_another_preparation_is_refused(change, message):
    values = {"do_resize": True, "do_rescale": True, "do_normalize": True, "size": {"height": 32, "width": 32}}
    assert Preparation.of(values, "file") == Preparation(32, None)
    with pytest.raises(UserError, match=f"^file: .*{message}"):
        Preparation.of(values | change, "file")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_transformers_load_image_turns_it(orientation, tmp_path):
    from transformers.image_utils import load_image

    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.open(io.BytesIO(picture(4, (24, 16)))).save(stream, "PNG", exif=exif)
    (tmp_path / "turned.png").write_bytes(stream.getvalue())
    expected = np.asarray(load_image(str(tmp_path / "turned.png")))
    assert np.array_equal(np.asarray(upright(Image.open(stream))), expected)
    stretched = Image.fromarray(expected).resize((16, 16), Image.Resampling.BICUBIC)
    found = decode(stream.getvalue(), Preparation(16, None))
    assert np.array_equal(found, np.asarray(stretched).transpose(2, 0, 1))


def test_what_is_not_a_picture_is_an_error():
    with pytest.raises(OSError, match="cannot identify"):
        decode(b"no picture", 16)


def test_decoded_pixels_can_be_written_and_lie_together():
    pixels = decode(picture(3), 16)
    assert pixels.flags.c_contiguous and pixels.dtype == np.uint8


def test_damaged_exif_beside_sound_pixels_turns_nothing_in_the_gate_and_in_training():
    """Found by fuzzing: the gate took the picture, and training ended in Pillow's SyntaxError."""
    from minivlm.data.validation.picture import DECODES, picture_facts

    stream = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(stream, "JPEG", exif=b"Exif\0\0no TIFF header at all")
    facts = picture_facts(stream.getvalue(), 4096)
    assert (facts.decoding, facts.width, facts.height) == (DECODES, 20, 10)
    assert decode(stream.getvalue(), 16).shape == (3, 16, 16)
