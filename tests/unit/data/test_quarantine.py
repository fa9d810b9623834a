"""Rows that tokenize leaves out: named with their reasons, counted, and few, or the stage ends in one line."""

import json

import pytest

from minivlm.data.store import PictureStore, TokenStore
from minivlm.data.tokenization import write_stores
from minivlm.errors import UserError
from tests.unit.data.toys import IMAGE_TOKENS, captions, conversation, picture, tree, write_source

LONG = (conversation("很长的问题" * 40, "是。"), picture(51))
LATE = (conversation("很长的问题" * 40 + "<image>", "是。", image=""), picture(52))
GOOD = captions(18)
ROWS = [*GOOD[:3], LONG, *GOOD[3:], LATE]


def write(folder, encoder, max_bad_fraction, **rows):
    """The stores of these splits, and what was listed as left out."""
    sources = {split: write_source(folder, split, some) for split, some in rows.items()}
    counts = write_stores(
        sources,
        folder / "tokenize",
        encoder=encoder,
        image_tokens=IMAGE_TOKENS,
        max_length=128,
        validation_fraction=0.2,
        max_bad_fraction=max_bad_fraction,
        listing=folder / "rejected.json",
    )
    return counts, json.loads((folder / "rejected.json").read_text())["rejected"]


def test_rows_that_cannot_be_stored_are_left_out_by_id_and_reason(tmp_path, encoder):
    counts, rejected = write(tmp_path, encoder, 0.1, sft=ROWS, heldout=captions(3, first=90))
    assert rejected == {
        "sft": {
            "count": 2,
            "rows": [
                {"id": "sft:3", "reason": "no supervised token"},
                {"id": "sft:19", "reason": "image tokens would be cut off"},
            ],
        },
        "heldout": {"count": 0, "rows": []},
    }
    assert (counts["sft"].rows, counts["sft"].rejected_rows, counts["sft"].truncated_rows) == (18, 2, 0)
    assert counts["heldout"].rejected_rows == 0
    store = TokenStore(tmp_path / "tokenize/sft")
    assert store.row_numbers.tolist() == [0, 1, 2, *range(4, 19)]
    assert len(PictureStore(tmp_path / "tokenize/pictures")) == 18


def test_the_stores_are_those_of_the_other_rows_alone(tmp_path, encoder):
    write(tmp_path / "some", encoder, 0.1, sft=ROWS)
    write(tmp_path / "without", encoder, 0.0, sft=GOOD)
    some, without = tree(tmp_path / "some/tokenize"), tree(tmp_path / "without/tokenize")
    assert some.pop("sft/rows.npy") != without.pop("sft/rows.npy")
    assert some == without


def test_more_than_the_bound_fails_in_one_line_with_rows_bound_and_list(tmp_path, encoder):
    with pytest.raises(UserError) as caught:
        write(tmp_path, encoder, 0.09, sft=ROWS, heldout=captions(30, first=90))
    said = str(caught.value)
    assert said.startswith("no supervised token: sft:3; image tokens would be cut off: sft:19 (")
    assert "2 of 20 rows of sft" in said and "tokenize.max_bad_fraction = 0.09" in said and "heldout" not in said
    assert str(tmp_path / "rejected.json") in said and "\n" not in said
    assert json.loads((tmp_path / "rejected.json").read_text())["rejected"]["sft"]["count"] == 2


def test_as_many_as_the_bound_says_pass(tmp_path, encoder):
    rows = [*captions(70, first=90), *[LONG] * 29, LATE]  # 29 of 100 are not over 0.29, whatever 0.29 is in binary
    counts, _ = write(tmp_path / "passes", encoder, 0.3, sft=rows)
    assert counts["sft"].rejected_rows == 30
    rows[-1] = captions(1, first=300)[0]
    assert write(tmp_path / "just", encoder, 0.29, sft=rows)[0]["sft"].rejected_rows == 29


def test_a_split_of_which_nothing_is_left_fails_whatever_the_bound(tmp_path, encoder):
    with pytest.raises(UserError, match=r"sft:0 \(.* no row of sft is left"):
        write(tmp_path, encoder, 1.0, sft=[LONG], heldout=captions(3))


def test_a_picture_of_a_rejected_row_with_several_is_not_validated_on(tmp_path, encoder):
    both = conversation("很长的问题" * 40, "是。", image="<image>\n<image>\n")
    rows = [(text, [data]) for text, data in captions(40)]
    _, rejected = write(tmp_path, encoder, 0.9, sft=[*rows, (both, [picture(7), picture(14)])])
    assert rejected["sft"]["count"] == 1
    write(tmp_path / "without", encoder, 0.0, sft=rows)
    stores = [TokenStore(tmp_path / name / "sft") for name in ("tokenize", "without/tokenize")]
    kept, without = (set(store.validation_rows().tolist()) for store in stores)
    assert {7, 14} < without and kept == without - {7, 14}
