"""Compiled layers: the same numbers, and no kernels for each new shape."""

import pytest
import torch

from minivlm.model.layers import compile_layers
from minivlm.model.llava import assemble
from minivlm.model.vision_language import VisionLanguageLoss
from minivlm.training.optimizer import freeze
from tests.unit.model.tiny import MEAN, STD, collate, rows


@pytest.mark.slow
@pytest.mark.long
def test_compiled_layers_say_the_same_and_are_compiled_once_for_all_shapes(base, tmp_path):
    from torch._dynamo.utils import counters

    model = assemble(base, seed=1)
    freeze(model, "llm")
    objective = VisionLanguageLoss(model, MEAN, STD).train()
    batches = [collate(rows(count, seed=count), pad_to=length) for count, length in
               ((4, 64), (3, 72), (5, 80), (2, 96), (6, 64), (1, 104))]  # fmt: skip
    assert len({batch.input_ids.shape for batch in batches}) == len(batches)

    def results():
        found = []
        for batch in batches:
            model.zero_grad()
            loss = objective(batch)
            loss.backward()
            found.append((loss.detach(), model.model.multi_modal_projector.linear_1.weight.grad.clone()))
        return found

    expected, names = results(), list(model.state_dict())
    torch.compiler.reset()
    counters.clear()
    compile_layers(model)
    for (loss, gradient), (wanted, wanted_gradient) in zip(results(), expected, strict=True):
        torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-4)
        assert (gradient - wanted_gradient).norm() <= 1e-3 * wanted_gradient.norm()
    assert 0 < counters["stats"]["unique_graphs"] <= 6
    assert list(model.state_dict()) == names
    torch.compiler.reset()
