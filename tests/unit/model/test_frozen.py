"""Frozen weights in low precision: the same results, the same tensors afterwards."""

import pytest
import torch

from minivlm.model.frozen import frozen_in
from minivlm.model.llava import assemble
from minivlm.model.vision_language import VisionLanguageLoss
from minivlm.training.optimizer import freeze
from tests.unit.model.tiny import MEAN, STD, collate, rows


@pytest.fixture
def model(base):
    return assemble(base, seed=1)


@pytest.mark.parametrize("policy", ["projector", "first_last", "llm"])
def test_under_autocast_loss_and_gradients_are_the_same_to_the_bit(model, policy):
    freeze(model, policy)
    objective, batch = VisionLanguageLoss(model, MEAN, STD).train(), collate(rows(6, seed=3))

    def results():
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective(batch)
        loss.backward()
        return loss.detach(), [p.grad for p in model.parameters() if p.grad is not None]

    (before, expected), kept = results(), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with frozen_in(model, "bf16"):
        converted = {name for name, p in model.named_parameters() if p.dtype == torch.bfloat16}
        loss, gradients = results()
    assert torch.equal(loss, before) and len(gradients) == len(expected)
    assert all(torch.equal(*pair) for pair in zip(gradients, expected, strict=True))
    assert any("vision_tower" in name for name in converted)
    assert not any("embed_tokens" in name or "norm" in name for name in converted)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())
    assert not any(p.requires_grad for name, p in model.named_parameters() if name in converted)


def test_an_error_inside_leaves_the_weights_whole(model):
    freeze(model, "projector")
    weight = model.model.vision_tower.encoder.layers[0].mlp.fc1.weight
    before = weight.data_ptr()
    with pytest.raises(ZeroDivisionError), frozen_in(model, "bf16"):
        assert weight.dtype == torch.bfloat16
        raise ZeroDivisionError
    assert weight.dtype == torch.float32 and weight.data_ptr() == before


def test_in_full_precision_nothing_is_converted(model):
    freeze(model, "projector")
    before = {name: p.data_ptr() for name, p in model.named_parameters()}
    with frozen_in(model, "fp32"):
        assert {name: p.data_ptr() for name, p in model.named_parameters()} == before
    with pytest.raises(KeyError), frozen_in(model, "fp16"):
        pass
