"""What a stage computes: counted from a store, or drawn from assumed lengths."""

import numpy as np
import pytest

from minivlm.config import load_params
from minivlm.data.batches import Batches
from minivlm.data.pictures import Preparation
from minivlm.data.store import PictureStore, TokenStore
from minivlm.paths import Paths
from minivlm.planning.drawn_rows import draw_rows
from minivlm.planning.models import llava_config
from minivlm.planning.work import (
    Lengths,
    draw_lengths,
    flops_of,
    planned_steps,
    shape_of,
    work_assumed,
    work_of_store,
)
from minivlm.training.operations import OperationCounter
from tests.unit.model.tiny import IMAGE_ID, SIZE
from tests.unit.planning.toys import write_checkout


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return TokenStore(write_checkout(tmp_path_factory.mktemp("work")).tokens("sft"))


@pytest.fixture(scope="module")
def section():
    section = load_params(Paths().params).sft
    return section.model_copy(update={"batch_tokens": 90, "accumulation": 2, "epochs": 1.4, "validations": 2})


def config():
    from transformers import CLIPVisionConfig, LlamaConfig

    vision = CLIPVisionConfig(
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=SIZE,
        patch_size=8,
    )
    text = LlamaConfig(
        vocab_size=272, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    return llava_config(vision, text, -1, IMAGE_ID)


def test_a_shape_is_that_of_the_batch_that_the_stage_makes(store, section):
    steps, counter = planned_steps(store, section, 1), OperationCounter(config(), "llm")
    pictures = PictureStore(store.directory.parent / "pictures")
    made = Batches(
        steps.batches, store, pictures, preparation=Preparation(SIZE, SIZE), image_token_id=IMAGE_ID,
        batch_tokens=section.batch_tokens,
    )  # fmt: skip
    for rows, batch in zip(steps.batches, made, strict=True):
        shape = shape_of(store, rows, section.batch_tokens)
        assert (shape.rows, shape.length) == tuple(batch.input_ids.shape)
        assert (shape.positions, shape.pictures) == (len(batch.supervised), len(batch.pixels))
        assert (shape.tokens, shape.padded) == (batch.tokens, batch.padded_tokens)
        assert flops_of(counter, shape) == counter.batch(batch)
        assert flops_of(counter, shape, backward=False) == counter.batch(batch, backward=False)


def test_validation_is_counted_as_often_as_it_runs(store, section):
    counter = OperationCounter(config(), "llm")
    twice = work_of_store(store, section, 1, counter, "")
    once = work_of_store(store, section.model_copy(update={"validations": 1}), 1, counter, "")
    assert twice.validation_flops == 2 * once.validation_flops > 0
    assert twice.flops == once.flops


def test_assumed_lengths_give_about_the_work_of_rows_of_these_lengths(store, section):
    """The same mean, rows and tower: the drawn lengths differ in spread, and each row has a picture of its own."""
    counter = OperationCounter(config(), "llm")
    known = work_of_store(store, section, 1, counter, "")
    mean = known.tokens / known.samples
    drawn = work_assumed(40, Lengths(mean, mean, mean, ""), 4, 90, 5 / 40, section, 1, counter, "")
    assert not drawn.exact and drawn.rows == known.rows == 35
    assert drawn.tokens == pytest.approx(known.tokens, rel=0.25)
    assert drawn.flops == pytest.approx(known.flops, rel=0.35)
    assert drawn.validation_flops == pytest.approx(known.validation_flops, rel=0.7)


def test_the_range_of_the_lengths_is_one_of_the_operations(section):
    counter = OperationCounter(config(), "llm")
    work = work_assumed(500, Lengths(30, 20, 50, ""), 4, 90, 0.0, section, 1, counter, "")
    assert 0.5 < work.low < 0.9 and 1.2 < work.high < 2.0
    assert work.validation_rows == work.validation_flops == 0


def test_drawn_lengths_have_the_mean_and_stay_within_their_bounds():
    lengths = draw_lengths(250, 20_000, 196, 640, 0)
    assert lengths.mean() == pytest.approx(250, rel=0.01)
    assert lengths.min() >= 198 and lengths.max() <= 640
    assert draw_lengths(250, 100, 196, 220, 0).max() == 220
    assert np.array_equal(draw_lengths(50, 10, 4, 90, 7), draw_lengths(50, 10, 4, 90, 7))


def test_drawn_rows_are_rows_that_a_stage_can_take(tmp_path):
    rows = draw_rows(
        tmp_path, mean=40, longest=60, batch_tokens=128, batches=4, image_tokens=4, vocabulary=272, size=32,
        side=SIZE, quality=90, seed=0,
    )  # fmt: skip
    plan = [np.arange(3), np.arange(3, 6)]
    made = list(
        Batches(plan, rows.tokens, rows.pictures, preparation=rows.preparation, image_token_id=rows.image_token_id)
    )
    assert [len(batch.pixels) for batch in made] == [3, 3]
    supervised = rows.tokens.supervised.sum() / (rows.tokens.lengths - 4).sum()
    assert supervised == pytest.approx(0.75, abs=0.02)


def test_however_large_a_batch_each_of_its_drawn_rows_has_a_picture_of_its_own(tmp_path):
    """As `work_assumed` counts them: else decoding and tower would be timed for a part of them."""
    rows = draw_rows(
        tmp_path, mean=8, longest=12, batch_tokens=1600, batches=1, image_tokens=4, vocabulary=272, size=32,
        side=SIZE, quality=90, seed=0,
    )  # fmt: skip
    everything = np.arange(len(rows.tokens))
    [batch] = Batches(
        [everything], rows.tokens, rows.pictures, preparation=rows.preparation, image_token_id=rows.image_token_id
    )
    assert len(batch.pixels) == len(everything) == 200
