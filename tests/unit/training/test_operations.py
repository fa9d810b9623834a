"""Operations of a batch are those of the cost formulas, by what is computed and trained."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from minivlm.model.llava import assemble
from minivlm.training import cost
from minivlm.training.operations import OperationCounter
from minivlm.training.result import FitResult
from tests.unit.model.tiny import collate, rows


@pytest.mark.parametrize(
    ("policy", "layers", "logits"),
    [("projector", 0, False), ("projector+last_layer", 1, False), ("first_last", 2, False), ("llm", 3, True)],
)
def test_a_batch_with_a_picture_a_row_counts_as_a_step(base, policy, layers, logits):
    config = assemble(base, seed=1).config
    batch = collate([row for row in rows(4) if row.pictures][:1])
    vision = cost.VisionShape(hidden_size=24, layers=2, intermediate_size=48, image_size=16, patch_size=8)
    expected = cost.step_flops(
        cost.LlamaShape.of(config.text_config), vision, batch=1, length=batch.padded_tokens,
        supervised=batch.count, trained_layers=layers, trained_logits=logits,
    )  # fmt: skip
    counter = OperationCounter(config, policy)
    assert counter.batch(batch) == expected
    assert [len(step) for step in counter.watch([[batch, batch], [batch]])] == [2, 1]
    assert counter.flops == 3 * expected


def test_validation_is_counted_apart_and_forward_only(base):
    counter = OperationCounter(assemble(base, seed=1).config, "llm")
    batch = collate(rows(4))
    assert list(counter.watch_validation([batch])) == [batch]
    assert counter.flops == 0
    assert 2 * counter.validation_flops < counter.batch(batch) < 4 * counter.validation_flops


def test_what_was_counted_goes_into_the_result(base):
    counter = OperationCounter(assemble(base, seed=1).config, "llm")
    list(counter.watch([[collate(rows(2))]]))
    result = counter.note(FitResult())
    assert (result.flops, result.validation_flops, result.optimizer_flops) == (counter.flops, 0, 0)


def test_padded_up_logit_positions_are_computed_and_counted(base):
    """A batch whose logits are rounded up says so by `supervised`, not by `count`."""
    counter = OperationCounter(assemble(base, seed=1).config, "projector")
    batch = collate(rows(2))
    more = SimpleNamespace(
        input_ids=batch.input_ids, pixels=batch.pixels, features=None, supervised=torch.zeros(batch.count + 5)
    )
    width, vocabulary = 32, 272
    assert counter.batch(more) - counter.batch(batch) == 2 * (2 * 5 * width * vocabulary)


def test_a_picture_of_two_rows_is_computed_once(base):
    counter = OperationCounter(assemble(base, seed=1).config, "projector")
    row = rows(1)[0]
    twice, once = counter.batch(collate([row, row])), counter.batch(collate([row]))
    assert once < twice < 2 * once


def test_features_that_are_kept_leave_the_tower_out(base):
    """What remains is projector and language model: the difference is the tower's forward pass."""
    counter = OperationCounter(assemble(base, seed=1).config, "projector")
    batch = collate(rows(4))
    pictures = len(batch.pixels)
    kept = replace(batch, pixels=batch.pixels[:0], features=torch.zeros(pictures, 4, 24))
    tower = cost.VisionShape(hidden_size=24, layers=2, intermediate_size=48, image_size=16, patch_size=8)
    assert counter.batch(batch) - counter.batch(kept) == cost.vision_forward_flops(tower, pictures)
