"""Operations of a batch are those of the cost formulas, by what is computed and trained."""

import pytest

from minivlm.model.llava import assemble
from minivlm.training import cost
from minivlm.training.operations import OperationCounter
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


def test_a_picture_of_two_rows_is_computed_once(base):
    counter = OperationCounter(assemble(base, seed=1).config, "projector")
    row = rows(1)[0]
    twice, once = counter.batch(collate([row, row])), counter.batch(collate([row]))
    assert once < twice < 2 * once
