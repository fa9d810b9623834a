"""Numbers of digests."""

import hashlib
import random
import tracemalloc

import pytest

from minivlm.data.validation import digests
from minivlm.data.validation.digests import DigestIndex
from minivlm.data.validation.picture import PictureFacts
from minivlm.data.validation.picture_table import PictureTable


def digest(number):
    return hashlib.sha256(str(number).encode()).digest()


@pytest.mark.parametrize("recent", [1, 7, 1 << 16])
def test_numbers_are_those_of_a_dictionary(recent, monkeypatch):
    monkeypatch.setattr(digests, "_RECENT", recent)
    draw, known, index = random.Random(0), {}, DigestIndex()
    for _ in range(60):
        asked = [digest(draw.randrange(300)) for _ in range(draw.randrange(12))]
        expected = [known.setdefault(each, len(known)) for each in asked]
        assert index.numbers(asked) == expected
        assert len(index) == len(known)


def test_digests_that_end_with_zeros_stay_apart(monkeypatch):
    monkeypatch.setattr(digests, "_RECENT", 2)
    some = [b"a" * 14 + b"\0\0", b"a" * 14 + b"\0b", b"a" * 15 + b"\0", bytes(16), b"\0" * 15 + b"a"]
    index = DigestIndex()
    assert [index.numbers([each])[0] for each in [*some, *some]] == [0, 1, 2, 3, 4] * 2


def test_a_picture_takes_less_than_a_hundred_bytes(monkeypatch):
    monkeypatch.setattr(digests, "_RECENT", 2000)
    pictures, table = 60_000, PictureTable()
    facts = PictureFacts("decodes", "JPEG", "RGB", 224, 200, likeness=(1 << 63) + 5)
    tracemalloc.start()
    try:
        for first in range(0, pictures, 1000):
            for number in table.numbers([digest(number) for number in range(first, first + 1000)]):
                table.add(facts)
                table.trained_on([number], number)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept / pictures < 100
    assert len(table) == pictures and table.first_row(59_999) == 59_999
    assert table.facts(7) == facts._replace(likeness=None)
    assert table.likeness_of([7]).tolist() == [facts.likeness]
