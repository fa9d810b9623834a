"""Muon with AdamW: orthogonal updates, one learning rate, and it survives Accelerate."""

import pytest
import torch
from torch import nn

from minivlm.training.muon import MuonWithAdamW, orthogonalized


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 4)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 16, 4), (2, 4, 16)])
def test_orthogonalized_matrices_have_singular_values_near_one(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalized(matrices))
    assert values.min() > 0.4
    assert values.max() < 1.3


def test_matrices_are_updated_alike_whatever_else_shares_their_shape():
    together = orthogonalized(torch.stack([torch.eye(4), 3 * torch.eye(4)]))
    assert torch.allclose(together[0], together[1], atol=0.02)  # in bf16, where the processor has it
    assert together.dtype == torch.float32


def test_the_learning_rate_set_after_accelerate_prepared_it_is_the_one_used():
    from accelerate import Accelerator

    model = Model()
    optimizer = Accelerator(cpu=True).prepare(MuonWithAdamW(model, 0.0))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    model.second(model.first(torch.ones(3, 8))).square().sum().backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_a_learning_rate_of_zero_changes_nothing():
    model = Model()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = MuonWithAdamW(model, 0.1)
    model.second(model.first(torch.ones(3, 8))).square().sum().backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_output_layers_and_embeddings_are_left_to_adamw():
    model = Model()
    model.words = nn.Embedding(5, 8)
    parts = MuonWithAdamW(model, 0.1, outputs=[model.second]).parts
    by_muon, by_adamw = ({id(p) for group in part.param_groups for p in group["params"]} for part in parts)
    assert by_muon == {id(model.first.weight)}
    assert by_adamw == {id(p) for p in model.parameters()} - by_muon
