"""What a picture file is opened as: its pixels, fewer of a large one, or one line on why there are none."""

import io
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from PIL import Image, ImageChops, ImageStat

from minivlm.data.pictures import read_upright
from minivlm.generation import opening
from minivlm.generation.opening import LARGE, LARGEST_BUFFERED, picture_size, read_picture
from tests.unit.evaluation.toys import picture


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_a_picture_of_ordinary_size_has_the_pixels_of_its_file(kind):
    data = encoded(picture(1, 300).resize((1201, 903)), kind)
    assert read_picture(data).tobytes() == read_upright(data).tobytes()


@pytest.fixture
def small_ones_are_large(monkeypatch):
    monkeypatch.setattr(opening, "LARGE", 10_000)
    monkeypatch.setattr(opening, "_STRIP", 32)


@pytest.mark.usefixtures("small_ones_are_large")
@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("PNG", "1"),
        ("TIFF", "RGB"),
    ],
)
def test_a_large_picture_is_halved_until_it_is_not_and_looks_the_same(kind, mode):
    data = encoded(picture(2, 100).resize((360, 240)).convert(mode), kind)
    found = read_picture(data)
    assert found.size == (90, 60) and found.mode == "RGB"
    difference = ImageChops.difference(found, read_upright(data).reduce(4))
    assert max(ImageStat.Stat(difference).mean) < (10 if kind == "JPEG" else 0.01)
    assert read_picture(encoded(Image.new(mode, (361, 243)), kind)).size == (91, 61)


@pytest.mark.usefixtures("small_ones_are_large")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_large_picture_is_turned_as_its_camera_noted(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its left side
    lying = Image.new("RGB", (200, 120), "red")
    lying.paste("blue", (0, 0, 100, 120))
    found = read_picture(encoded(lying, kind, exif=exif))
    assert found.size == (60, 100)
    assert found.getpixel((30, 10))[2] > 200 and found.getpixel((30, 90))[0] > 200  # the left is above now


@pytest.mark.usefixtures("small_ones_are_large")
def test_one_large_picture_is_decoded_at_a_time_whoever_asks(monkeypatch):
    data, inside, most = encoded(Image.new("RGB", (200, 200)), "PNG"), [], []
    original = opening._reduced

    def slow(image, factor):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        found = original(image, factor)
        inside.pop()
        return found

    monkeypatch.setattr(opening, "_reduced", slow)
    threads = [threading.Thread(target=read_picture, args=(data,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "mode", "options", "limit", "most"),
    [
        ("PNG", "RGBA", {}, 36_000_000, 6),
        ("JPEG", "RGB", {}, 36_000_000, 2),
        ("TIFF", "RGBA", {"compression": "tiff_lzw", "strip_size": 1 << 30}, LARGEST_BUFFERED, 9),  # in one strip
        ("JPEG", "CMYK", {"progressive": True}, LARGEST_BUFFERED, 10),
    ],
)
def test_the_memory_of_a_large_picture_is_bounded(tmp_path, kind, mode, options, limit, most):
    """In bytes a pixel, in a process of its own, as a peak counts from its beginning; the whole has 4."""
    side = int(limit**0.5)
    assert side**2 > LARGE
    Image.new(mode, (side, side)).save(tmp_path / "large", kind, **options)
    Image.new(mode, (60, 60)).save(tmp_path / "small", kind, **options)
    program = """
import pathlib, resource, sys
from minivlm.generation.opening import read_picture
peaks = []
for name in sys.argv[1:]:
    assert read_picture(pathlib.Path(name)).mode == "RGB"
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(peaks[1] - peaks[0])
"""
    command = [sys.executable, "-c", program, str(tmp_path / "small"), str(tmp_path / "large")]
    grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(grown) << 10 < most * side**2


def test_what_is_beyond_a_limit_is_told_with_it(tmp_path):
    side = int(LARGEST_BUFFERED**0.5) + 1
    Image.new("1", (10_001, 10_000)).save(tmp_path / "large.png")
    Image.new("L", (101, 1)).save(tmp_path / "long.png")
    Image.new("RGB", (side, side)).save(tmp_path / "large.webp", method=0, quality=1)
    Image.new("L", (side, side)).save(tmp_path / "large.tif", compression="tiff_deflate")
    Image.new("L", (side, side)).save(tmp_path / "large.jpg", progressive=True)
    said = [picture_size(path) for path in sorted(tmp_path.iterdir())]
    beyond = f"{side} x {side} pixels: too large, a"
    assert said == [
        f"{beyond} progressive JPEG may have 30,000,000",
        "10001 x 10000 pixels: too large, a PNG may have 100,000,000",
        f"{beyond} TIFF may have 30,000,000",
        f"{beyond} WEBP may have 30,000,000",
        "101 x 1 pixels: more than 100 times as long as wide",
    ]


def test_what_is_no_file_is_told_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "pipe", tmp_path / "socket"):
            assert read_picture(path) == "a named pipe, a socket or a device, and no file"
    assert "device" in read_picture(type(tmp_path)("/dev/zero"))
    assert read_picture(tmp_path) == "a folder, and no picture"
    assert read_picture(tmp_path / ("long" * 100)) == "cannot be read: File name too long"
    assert read_picture(tmp_path / "none") == "not found"
