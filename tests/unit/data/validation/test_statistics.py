"""What is said of all rows of a file together."""

from collections import Counter

import numpy as np
import pytest

from minivlm.data.validation.conversation import conversation_facts, scripts
from minivlm.data.validation.statistics import median
from tests.unit.data.validation.rows import talk


@pytest.mark.parametrize("values", [[3], [1, 2], [1, 1, 5], [4, 1, 4, 1], [2, 9, 9, 1, 7], [1, 2, 2, 4]])
def test_the_median_of_counts_is_that_of_the_values(values):
    assert median(Counter(values)) == np.median(values)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("一只鹰", (3, 0, 0, 0)),
        ("一只 eagle，两只 Ädler。", (4, 10, 0, 2)),
        ("привет мир", (0, 0, 9, 0)),
        ("カメラとひらがな한국어", (11, 0, 0, 0)),
        ("3.14 = π？", (0, 0, 1, 6)),
        ("ＡＢ〇々", (2, 2, 0, 0)),
        ("😀\n\t ", (0, 0, 0, 1)),
        ("", (0, 0, 0, 0)),
    ],
)
def test_characters_are_counted_by_their_script(text, counts):
    assert tuple(scripts(text).values()) == counts


def test_the_image_mark_is_no_latin_text():
    facts = conversation_facts(talk(("user", "<image>\n描述"), ("assistant", "ok")).encode())
    assert (facts.cjk, facts.latin, facts.other_letters, facts.signs) == (2, 2, 0, 0)
