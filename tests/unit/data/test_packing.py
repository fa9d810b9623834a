"""Packed rows: every token of every document in one place, with its mask, in an order drawn from the seed."""

import math
from pathlib import Path

import numpy as np
import pytest

from minivlm.data import packing
from minivlm.data.encoding import ChatEncoder
from minivlm.data.packing import PackedRows, TextStore, shuffled
from minivlm.data.pairs import is_validation
from minivlm.data.texts import Document
from minivlm.data.validation.conversation import Turn
from minivlm.errors import UserError
from tests.unit.data.toys import write_tokenizer


def chat(question, answer):
    return Document(None, (Turn("user", question), Turn("assistant", answer)))


DOCUMENTS = [
    Document("夕阳下的大海。" * (1 + i % 7)) if i % 3 else chat(f"第{i}个问题?", "回答。" * (1 + i % 5))
    for i in range(60)
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return ChatEncoder(write_tokenizer(tmp_path_factory.mktemp("tokenizer")))


@pytest.fixture
def store(encoder, tmp_path):
    return TextStore.write(DOCUMENTS, tmp_path, encoder, 0.2)


def encoded(encoder, document):
    """The ids and the mask of a document by themselves."""
    if document.text is not None:
        [ids] = encoder.encode_plain([document.text])
        return ids.tolist(), [False] + [True] * (len(ids) - 1)
    [(ids, mask)] = encoder.encode_rows([[turn._asdict() for turn in document.turns]], image_tokens=1)
    return ids.tolist(), mask.tolist()


def flat(rows):
    ids, masks = zip(*rows, strict=True)
    return [*zip(np.concatenate(ids).tolist(), np.concatenate(masks).tolist(), strict=True)]


@pytest.mark.parametrize("length", [1, 7, 64, 1000, 10**6])
def test_no_token_is_lost_or_seen_twice_and_its_mask_goes_with_it(store, encoder, length):
    order = np.random.default_rng(0).permutation(len(DOCUMENTS))
    rows = PackedRows(store, order, length)
    each = [encoded(encoder, DOCUMENTS[i]) for i in order]
    assert flat(rows) == [pair for ids, mask in each for pair in zip(ids, mask, strict=True)]
    sizes = [len(ids) for ids, _ in rows]
    assert sizes[:-1] == [length] * (len(sizes) - 1)
    assert 0 < sizes[-1] <= length
    assert len(sizes) == len(rows) == math.ceil(rows.tokens / length)


def test_a_document_longer_than_a_row_goes_on_in_the_next(encoder, tmp_path):
    long = Document("夕阳下的大海上有两只红色的帆船。" * 30)
    store = TextStore.write([long], tmp_path, encoder, 0.0)
    rows = PackedRows(store, np.array([0]), 50)
    assert len(rows) > 3
    assert flat(rows) == [*zip(*encoded(encoder, long), strict=True)]


def test_some_documents_alone_can_be_packed_and_none_give_no_row(store, encoder):
    chosen = np.array([41, 3])
    expected = [pair for i in chosen for pair in zip(*encoded(encoder, DOCUMENTS[i]), strict=True)]
    assert flat(PackedRows(store, chosen, 9)) == expected
    assert len(PackedRows(store, chosen[:0], 9)) == 0


@pytest.mark.parametrize("row", [-1, 10**6])
def test_there_is_no_row_outside(store, row):
    with pytest.raises(IndexError):
        PackedRows(store, store.training(), 10)[row]


def test_a_document_is_held_back_by_its_hash_alone(store, encoder, tmp_path):
    expected = [is_validation(document.key, 0.2) for document in DOCUMENTS]
    assert store.validation.tolist() == expected
    assert 0 < sum(expected) < len(expected)
    assert sorted([*store.training(), *store.held_back()]) == list(range(len(DOCUMENTS)))
    (tmp_path / "other").mkdir()
    other = TextStore.write([*DOCUMENTS[30:], *DOCUMENTS[:30]], tmp_path / "other", encoder, 0.2)
    assert other.validation.tolist() == expected[30:] + expected[:30]


def test_the_order_depends_on_seed_and_epoch_alone():
    documents = np.arange(50) * 3
    first = shuffled(documents, 1, 0)
    assert sorted(first) == documents.tolist()
    assert np.array_equal(first, shuffled(documents, 1, 0))
    np.random.seed(5)  # the global generator has no say
    assert np.array_equal(first, shuffled(documents, 1, 0))
    assert not np.array_equal(first, shuffled(documents, 1, 1))
    assert not np.array_equal(first, shuffled(documents, 2, 0))


def test_the_files_are_the_same_however_many_documents_are_encoded_together(store, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "_ENCODED_TOGETHER", 7)
    (tmp_path / "other").mkdir()
    TextStore.write(iter(DOCUMENTS), tmp_path / "other", encoder, 0.2)
    for name in ("tokens.bin", "supervised.bin"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_tokens_are_mapped_and_two_bytes_wide_where_that_is_enough(store):
    assert isinstance(store.tokens, np.memmap)
    assert store.tokens.dtype == np.uint16
    assert store.tokens.nbytes == 2 * store.offsets[-1]


def test_a_large_vocabulary_gets_four_bytes(encoder, tmp_path):
    class Large:
        vocabulary = 70_000

        def __getattr__(self, name):
            return getattr(encoder, name)

        def encode_plain(self, texts):
            return [np.array([1, 65_537, 2]) for _ in texts]

    store = TextStore.write([Document("a")], tmp_path, Large(), 0.0)
    assert store.tokens.tolist() == [1, 65_537, 2]


def test_what_somebody_typed_is_no_picture_and_no_end(encoder, tmp_path):
    typed = [chat("<image>\n在哪里?<|im_end|>", "用<image>标记。"), Document("<image><|im_end|>")]
    store = TextStore.write(typed, tmp_path, encoder, 0.0)
    assert encoder.image_token_id not in store.tokens
    _, start, end, _ = encoder.special_ids
    assert store.tokens.tolist().count(end) == store.tokens.tolist().count(start) == 3
    assert encoder.decode(store.tokens.tolist()).count("<image>") == 3


def test_when_every_document_would_be_held_back_it_says_so(encoder, tmp_path):
    with pytest.raises(UserError, match=r"all 2 documents would be kept for validation.*validation_fraction"):
        TextStore.write(DOCUMENTS[:2], tmp_path, encoder, 0.999999)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to write to")
def test_a_full_disk_is_said_in_one_line(encoder, tmp_path):
    (tmp_path / "tokens.bin").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r": No space left on device; the tokens of base.texts are kept there$"):
        TextStore.write(DOCUMENTS, tmp_path, encoder, 0.0)


def test_the_unigram_loss_is_that_of_the_training_documents_frequencies(store, encoder):
    vocabulary = encoder.vocabulary
    counts = np.ones(vocabulary)
    for i in store.training():
        ids, mask = map(np.array, encoded(encoder, DOCUMENTS[i]))
        np.add.at(counts, ids[mask], 1)
    probability = counts / counts.sum()
    asked = [np.array(ids)[mask] for i in store.held_back() for ids, mask in [encoded(encoder, DOCUMENTS[i])]]
    expected = -np.log(probability[np.concatenate(asked)]).mean()
    assert store.unigram_loss(vocabulary) == pytest.approx(expected)


def test_there_is_no_unigram_loss_where_nothing_is_held_back(encoder, tmp_path):
    with pytest.raises(ValueError, match="no document"):
        TextStore.write(DOCUMENTS, tmp_path, encoder, 0.0).unigram_loss(encoder.vocabulary)
