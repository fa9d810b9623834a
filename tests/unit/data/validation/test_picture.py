"""What is said of one picture."""

import pytest

from minivlm.data.validation.picture import picture_facts
from tests.unit.data.validation.rows import picture


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGBA"), ("PNG", "P"), ("WEBP", "RGB")]
)
def test_a_sound_picture_is_described(kind, mode):
    facts = picture_facts(picture(1, (20, 12), kind, mode), max_side=64)
    assert facts == ("decodes", kind, mode, 20, 12)


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
