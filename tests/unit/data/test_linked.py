"""Rows with several pictures: theirs are trained on, and validated on nowhere."""

import numpy as np
import pytest

from minivlm.data.pairs import AcceptedRows, Pairs, linked_pictures, picture_key
from minivlm.data.store import PictureStore, TokenStore
from minivlm.data.tokenization import validation_rows, write_stores
from minivlm.training.base_data import conversations, held_back
from tests.unit.data.toys import IMAGE_TOKENS, captions, conversation, picture, write_source

SHARE, LINKED = 0.3, range(40, 80)
TRAINING = ("pretrain", "sft")
BOTH = conversation("比较。", "都有鸟。", image="<image>\n<image>\n")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """pretrain: 80 rows of one picture; sft: the first 20 of them again, the last 40 two by two."""
    folder = tmp_path_factory.mktemp("linked")
    compared = [(BOTH, [picture(i), picture(i + 1)]) for i in LINKED[::2]]
    sft = [(text, [data]) for text, data in captions(20)] + compared
    rows = {"pretrain": captions(80), "sft": sft}
    return {split: write_source(folder, split, some) for split, some in rows.items()}


@pytest.fixture
def rows(sources):
    return {split: AcceptedRows(source.table, source.accepted) for split, source in sources.items()}


def chosen(store, rows):
    return {int(number) for i in rows for number in store.pictures(i)}


def test_no_picture_is_trained_on_in_one_row_and_validated_on_in_another(sources, tmp_path, encoder):
    options = {"image_tokens": IMAGE_TOKENS, "max_length": 128, "validation_fraction": SHARE}
    write_stores(sources, tmp_path / "tokenize", encoder=encoder, **options)
    stores = [TokenStore(tmp_path / "tokenize" / split) for split in TRAINING]
    kept = set().union(*(chosen(store, store.validation_rows()) for store in stores))
    trained = set().union(*(chosen(store, store.training_rows()) for store in stores))
    assert not kept & trained
    pictures = PictureStore(tmp_path / "tokenize" / "pictures")
    linked = {picture(i) for i in LINKED}
    assert not {pictures.bytes(i) for i in kept} & linked
    assert len(kept) == pytest.approx(SHARE * 40, rel=0.4)


def test_base_validates_on_the_pictures_that_tokenize_validates_on(sources, rows, tmp_path, encoder):
    options = {"image_tokens": IMAGE_TOKENS, "max_length": 128, "validation_fraction": SHARE}
    write_stores(sources, tmp_path / "tokenize", encoder=encoder, **options)
    validated = [TokenStore(tmp_path / "tokenize" / split).validation_rows().tolist() for split in TRAINING]
    of_tasks = np.flatnonzero(held_back(list(conversations(rows)), SHARE)).tolist()
    assert of_tasks == [*validated[0], *(80 + i for i in validated[1])]
    pairs = Pairs.read(rows["pretrain"], linked_pictures(rows.values()))
    assert np.flatnonzero(pairs.held_back(SHARE)).tolist() == validated[0]


def test_linked_are_the_pictures_of_rows_with_several(rows):
    keys = {split: [picture_key(row) for row in some] for split, some in rows.items()}
    assert linked_pictures(rows.values()) == set(keys["pretrain"][40:])
    assert linked_pictures([list(some) for some in rows.values()]) == set(keys["pretrain"][40:])
    assert linked_pictures([rows["pretrain"]]) == set()


def test_a_file_without_lists_of_pictures_is_not_gone_through(rows, monkeypatch):
    monkeypatch.setattr(AcceptedRows, "__iter__", None)
    assert linked_pictures([rows["pretrain"]]) == set()


def test_a_row_that_may_not_be_kept_is_not_kept_where_a_split_is_small():
    never = np.inf
    places = {"pretrain": np.array([0.5, 0.9]), "sft": np.array([0.95, never, never]), "more": np.array([never])}
    kept = validation_rows(places, 1e-6)
    assert [some.tolist() for some in kept.values()] == [[True, False], [True, False, False], [False]]
