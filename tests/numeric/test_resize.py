"""Resizing on the device against Pillow: every byte."""

import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from minivlm.data.pictures import Preparation, decode
from minivlm.model.resize import BICUBIC, BILINEAR, can_resize, resize

SIZES = [(32, 32), (16, 16), (50, 32), (32, 51), (97, 41), (33, 90), (7, 9), (128, 128), (1, 5)]  # width, height
LANCZOS = 1


def noise(size, seed=0):
    """Black, white and random pixels side by side: sums that run over at both ends."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return np.where(random.random((size[1], size[0], 1)) < 0.5, pixels, (pixels > 127) * np.uint8(255))


ASKED = list(itertools.product(SIZES, [(32, 32), (31, 40), (224, 224), (32, None)], [BICUBIC, BILINEAR]))
EXACT = [case for case in ASKED if can_resize(case[0][1], case[0][0], *case[1], case[2])]


def test_nearly_every_size_is_resized_here():
    assert len(EXACT) >= len(ASKED) - 1  # the others are left to Pillow


@pytest.mark.parametrize(("size", "square", "resample"), EXACT)
def test_every_byte_is_pillows(size, square, resample):
    side, edge = square
    pictures = [noise(size, seed) for seed in range(2)]
    files = [io.BytesIO() for _ in pictures]
    for picture, file in zip(pictures, files, strict=True):
        Image.fromarray(picture).save(file, "PNG")
    expected = [decode(file.getvalue(), Preparation(side, edge, resample)) for file in files]
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        found = resize(pixels, side, edge, resample)
    assert found.dtype == torch.uint8 and found.is_contiguous()
    assert np.array_equal(found.numpy(), np.stack(expected))


def test_what_would_not_be_exact_is_refused():
    assert can_resize(128, 128, 224, 224, BICUBIC) and can_resize(640, 480, 224, 224, BICUBIC)
    assert not can_resize(4000, 3000, 224, 224, BICUBIC)  # each pixel a sum over 55 neighbours
    assert not can_resize(128, 128, 224, 224, LANCZOS)


@pytest.mark.gpu
@pytest.mark.parametrize("size", SIZES)
def test_a_gpu_makes_the_same_bytes(size):
    pixels = torch.from_numpy(noise(size)).permute(2, 0, 1)[None]
    torch.set_float32_matmul_precision("high")  # TF32
    try:
        found = resize(pixels.cuda(), 32, 32).cpu()
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(found, resize(pixels, 32, 32))
