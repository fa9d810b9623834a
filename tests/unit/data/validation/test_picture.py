"""What is said of one picture."""

import io

import pytest
from PIL import Image

from minivlm.data.validation import picture as picture_module
from minivlm.data.validation.picture import is_placeholder, picture_facts, row_pictures
from tests.unit.data.validation.rows import picture, placeholder


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGBA"), ("PNG", "P"), ("WEBP", "RGB")]
)
def test_a_sound_picture_is_described(kind, mode):
    facts = picture_facts(picture(1, (20, 12), kind, mode), max_side=64)
    assert facts == ("decodes", kind, mode, 20, 12, None)


def test_a_picture_cut_in_the_middle_is_truncated_though_its_header_is_sound():
    facts = picture_facts(picture(1, (64, 64))[:-200], max_side=64)
    assert (facts.decoding, facts.width, facts.height) == ("truncated", 64, 64)


def test_a_png_with_damaged_pixels_does_not_decode():
    data = bytearray(picture(1, kind="PNG"))
    middle = data.index(b"IDAT") + 10
    data[middle : middle + 8] = b"\x00" * 8
    assert picture_facts(bytes(data), max_side=64).decoding not in ("decodes", None)


def test_zero_bytes_and_text_are_not_pictures():
    assert picture_facts(b"", max_side=64).decoding == "zero bytes"
    assert picture_facts(b"<html>not found</html>", max_side=64).decoding == "not a picture"


def test_a_format_that_would_run_another_program_is_not_opened():
    assert (
        picture_facts(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", max_side=64).decoding
        == "not a picture"
    )


def test_a_picture_over_the_limit_is_measured_but_not_decoded():
    truncated = picture(1, (65, 16))[:-100]  # decoding it would say "truncated"
    facts = picture_facts(truncated, max_side=64)
    assert (facts.decoding, facts.width) == (None, 65)


def rotated(orientation):
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 20), "red").save(stream, "JPEG", exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize(("orientation", "size"), [(1, (40, 20)), (3, (40, 20)), (6, (20, 40)), (8, (20, 40))])
def test_the_size_is_that_of_the_picture_as_it_is_looked_at(orientation, size):
    facts = picture_facts(rotated(orientation), max_side=64)
    assert (facts.decoding, facts.width, facts.height) == ("decodes", *size)


def test_damaged_exif_beside_sound_pixels_turns_nothing():
    data = rotated(6).replace(b"MM\x00*", b"MM\x00\xff", 1)
    facts = picture_facts(data, max_side=64)
    assert (facts.decoding, facts.width, facts.height) == ("decodes", 40, 20)


def test_a_file_beyond_the_bound_is_not_opened(monkeypatch):
    monkeypatch.setattr(picture_module, "MAX_PICTURE_BYTES", 100)
    data = picture(1)
    assert picture_facts(data, max_side=64).decoding == f"a file of {len(data)} bytes, over 100"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_the_placeholder_is_known_in_every_format(kind):
    assert is_placeholder(placeholder(kind))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"not a picture", placeholder()[:-40], picture(1, (8, 8))),
        *(placeholder(side=9), placeholder(colour="#010101")),
    ],
)
def test_nothing_else_is_a_placeholder(data):
    assert not is_placeholder(data)


def test_the_pictures_of_a_row_are_those_that_are_no_placeholder():
    one, two = picture(1), picture(2)
    assert row_pictures(None) == row_pictures([]) == row_pictures([None]) == row_pictures(placeholder()) == ()
    assert row_pictures(one) == row_pictures([one]) == row_pictures([placeholder("PNG"), one]) == (one,)
    assert row_pictures([two, one, two]) == (two, one, two)
    assert row_pictures([one, None]) == (one, None)
    assert row_pictures(b"") == (b"",)
