"""Text tasks and packed texts in one epoch, and a language model that learns from either or both."""

import math

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from minivlm.data.packing import PackedRows, TextStore
from minivlm.data.text_tasks import collate_tasks
from minivlm.errors import UserError
from minivlm.model.checkpoint import load_strictly
from minivlm.training.base_llm import train_llm
from minivlm.training.mixture import Epoch, PackedTexts, TextBatches, interleaved
from tests.unit.data.toys import tree
from tests.unit.training.test_text_loss import END, EXCHANGES, IMAGE, OPTIMIZATION, PAD, SHAPE, SPECIAL, START, row

LENGTH, BUDGET = 16, 64


def texts(number=120, held=12, seed=0):
    """Documents in which each token is the one before plus two: easily learnt, and never guessed."""
    random = np.random.default_rng(seed)
    documents = []
    for _ in range(number):
        first = int(random.integers(6, 36))
        body = 6 + (first + 2 * np.arange(int(random.integers(3, 30)))) % 30
        documents.append(np.array([START, *body, END]))
    tokens = np.concatenate(documents).astype(np.uint16)
    offsets = np.cumsum([0, *map(len, documents)])
    supervised = np.ones(len(tokens), bool)
    supervised[offsets[:-1]] = False
    return PackedTexts(TextStore(tokens, supervised, offsets, np.arange(number) < held), LENGTH)


def train(directory, rows=0, packed=None, epochs=3.0, seed=0, **changed):
    torch.manual_seed(seed)
    return train_llm(
        [row(i) for i in range(rows)], np.arange(rows) >= rows - rows // 8, directory, shape=SHAPE,
        special_ids=SPECIAL, image_token_id=IMAGE, header_ids=(), batch_tokens=BUDGET, epochs=epochs, seed=seed,
        texts=packed, **OPTIMIZATION | changed,
    )  # fmt: skip


def of_epoch(packed, epoch=0, share=1.0, seed=0):
    return TextBatches.of_epoch(packed, epoch, batch_tokens=BUDGET, pad_token_id=PAD, seed=seed, share=share)


@pytest.mark.parametrize(
    ("first", "second"),
    [([5] * 4, [5] * 8), ([1, 9, 2], [4] * 11), ([3], [100, 1, 1]), ([], [2, 2]), ([7], []), ([], [])],
)  # fmt: skip
def test_both_kinds_advance_at_one_pace(first, second):
    order = [*interleaved(first, second)]
    assert (order.count(0), order.count(1)) == (len(first), len(second))
    sizes, done = (iter(first), iter(second)), [0, 0]
    for kind in order:
        done[kind] += next(sizes[kind])
        if first and second:
            shares = done[0] / sum(first), done[1] / sum(second)
            assert abs(shares[0] - shares[1]) <= max(max(first) / sum(first), max(second) / sum(second)) + 1e-9


def test_an_epoch_of_texts_holds_every_token_to_train_on_once():
    packed = texts()
    batches = [*of_epoch(packed)]
    assert [batch.tokens for batch in batches] == of_epoch(packed).sizes
    assert all(batch.padded_tokens <= BUDGET for batch in batches)
    seen = np.concatenate([batch.input_ids.numpy().reshape(-1)[: batch.tokens] for batch in batches])
    store = packed.store
    expected = store.tokens[store.offsets[12] :]  # the first twelve documents are held back
    assert np.array_equal(np.sort(seen), np.sort(expected))


def test_the_last_row_is_padded_and_nothing_is_learnt_from_the_padding():
    packed = texts()
    *_, last = of_epoch(packed)
    padding = last.padded_tokens - last.tokens
    assert 0 < padding < LENGTH
    assert (last.input_ids[-1, LENGTH - padding :] == PAD).all()
    assert (last.targets != PAD).all()


def test_what_is_supervised_is_predicted_from_the_tokens_before_it_in_its_row():
    for batch in of_epoch(texts()):
        ids = batch.input_ids.reshape(-1)
        supervised, targets = batch.supervised[: batch.count], batch.targets[: batch.count]
        assert torch.equal(targets, ids[supervised + 1])
        assert ((supervised + 1) % LENGTH != 0).all()
        assert (batch.targets != START).all()


def test_epochs_and_seeds_shuffle_anew_and_a_share_takes_the_first_rows():
    packed = texts()

    def ids(**how):
        return torch.cat([batch.input_ids.reshape(-1) for batch in of_epoch(packed, **how)])

    assert torch.equal(ids(), ids())
    assert not torch.equal(ids(), ids(epoch=1))
    assert not torch.equal(ids(), ids(seed=1))
    part = ids(share=0.3)
    assert torch.equal(part, ids()[: len(part)])
    assert len(part) == pytest.approx(0.3 * len(ids()), abs=LENGTH)
    assert len(ids(share=1e-9)) == LENGTH


def test_an_epoch_of_both_kinds_holds_all_of_both():
    packed = texts()
    tasks = [collate_tasks([row(i).task(IMAGE, EXCHANGES, np.random.default_rng(i))], PAD) for i in range(9)]
    epoch = Epoch(tasks, of_epoch(packed))
    batches = [*epoch]
    assert len(epoch) == len(batches) == 9 + len(of_epoch(packed))
    assert [batch for batch in batches if len(batch.slots)] == tasks
    assert [len(batch.slots) > 0 for batch in batches].index(True) == 0
    assert [*Epoch(tasks, None)] == tasks


def test_a_language_model_learns_from_texts_alone(tmp_path):
    packed = texts()
    result, losses = train(tmp_path / "llm", packed=packed, epochs=6)
    assert losses == {"text": result.val_loss}
    assert math.exp(result.val_loss) < 0.5 * math.exp(packed.store.unigram_loss(SHAPE["vocab_size"]))
    assert result.steps == 6 * len(of_epoch(packed))
    assert result.tokens == 6 * sum(of_epoch(packed).sizes)
    load_strictly(LlamaForCausalLM, tmp_path / "llm")


def test_the_loss_of_both_kinds_is_a_mean_over_all_their_tokens(tmp_path):
    packed = texts()
    result, losses = train(tmp_path / "llm", rows=80, packed=packed, epochs=1)
    assert losses.keys() == {"task", "text"}
    tasks, held = 10 * 5, TextBatches.held_back(packed, batch_tokens=BUDGET, pad_token_id=PAD)
    of_texts = sum(batch.count for batch in held)
    expected = (losses["task"] * tasks + losses["text"] * of_texts) / (tasks + of_texts)
    assert result.val_loss == pytest.approx(expected, rel=1e-6)


def test_the_losses_kept_are_those_of_the_weights_kept(tmp_path):
    result, losses = train(tmp_path / "llm", packed=texts(), epochs=4, validations=5, learning_rate=0.3)
    rows = [each.val_loss for each in result.history if each.val_loss is not None]
    assert len(rows) == 5
    assert losses["text"] == min(rows) == result.val_loss


def test_mixed_training_is_the_same_every_time_and_another_with_another_seed(tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        train(tmp_path / name, rows=24, packed=texts(), epochs=0.7, seed=seed)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert tree(tmp_path / "one") != tree(tmp_path / "other")


def test_a_part_of_an_epoch_takes_that_part_of_both_kinds(tmp_path):
    packed = texts()
    result, _ = train(tmp_path / "llm", rows=80, packed=packed, epochs=0.5)
    whole = sum(of_epoch(packed).sizes) / LENGTH
    assert result.samples == pytest.approx(35 + whole / 2, abs=1)


def test_without_anything_held_back_there_is_no_validation_loss(tmp_path):
    result, losses = train(tmp_path / "llm", packed=texts(held=0), epochs=0.2)
    assert (result.val_loss, losses) == (None, {})


def test_nothing_to_learn_from_ends_in_one_line(tmp_path):
    with pytest.raises(UserError, match="no row and no text is left"):
        train(tmp_path / "llm")


def test_a_row_names_the_documents_that_it_has_tokens_of():
    packed = texts()
    lengths = np.diff(packed.store.offsets)
    documents = np.random.default_rng(1).permutation(120)
    for length in (1, 7, LENGTH, 50):
        rows = PackedRows(packed.store, documents, length)
        of_token = np.repeat(documents, lengths[documents])
        for number in range(len(rows)):
            expected = dict.fromkeys(of_token[number * length : (number + 1) * length])
            assert rows.names(number) == tuple(f"texts:{each}" for each in expected)
