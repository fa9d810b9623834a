"""RMSNorm in one operation against transformers' own."""

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from minivlm.model import norms
from minivlm.model.llava import assemble
from tests.unit.model.tiny import VOCABULARY, write_base

WIDTH = 24


def norm(seed=0):
    torch.manual_seed(seed)
    module = LlamaRMSNorm(WIDTH, eps=1e-3)
    with torch.no_grad():
        module.weight.copy_(torch.rand(WIDTH) + 0.5)
    return module


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("shape", [(5, WIDTH), (2, 3, 4, WIDTH)])
def test_output_and_gradients_under_autocast_are_those_of_fp32_within_bf16(trained, shape):
    module = norm()
    module.weight.requires_grad_(trained)
    results = []
    for function in (module.double(), None):
        hidden = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3
        if function is None:
            module.float()
            hidden.requires_grad_()
            with torch.autocast("cpu", torch.bfloat16):
                output = norms.rms_norm(module, hidden)
            assert output.dtype == torch.bfloat16
        else:
            hidden = hidden.double().requires_grad_()
            output = function(hidden)
        wanted = [hidden, module.weight] if trained else [hidden]
        directions = torch.randn(shape, generator=torch.Generator().manual_seed(2))
        results.append([output.detach(), *torch.autograd.grad((output * directions).sum(), wanted)])
    for exact, ours in zip(*results, strict=True):
        assert (ours.double() - exact).norm() < 0.005 * exact.norm()


def test_without_autocast_it_is_the_same_norm():
    module, hidden = norm(), torch.randn(7, WIDTH)
    assert norms.rms_norm(module, hidden).dtype == torch.float32
    torch.testing.assert_close(norms.rms_norm(module, hidden), module(hidden), rtol=1e-6, atol=1e-6)


def test_gradients_are_the_formulas_where_nothing_is_rounded():
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(3, 5, generator=generator, requires_grad=True)
    weight = torch.rand(5, generator=generator, requires_grad=True)
    exact = hidden.double() * torch.rsqrt(hidden.double().square().mean(-1, keepdim=True) + 1e-3) * weight.double()
    ours = norms._RMSNorm.apply(hidden, weight, 1e-3, torch.float32)
    expected = torch.autograd.grad(exact.square().sum(), (hidden, weight))
    for gradient, wanted in zip(torch.autograd.grad(ours.square().sum(), (hidden, weight)), expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)


def test_a_language_model_says_the_same_and_saves_the_same(tmp_path):
    model = assemble(write_base(tmp_path / "base"), seed=1)
    llm, before = model.model.language_model, sorted(model.state_dict())
    ids = torch.randint(VOCABULARY, (3, 20), generator=torch.Generator().manual_seed(0))
    outputs = [llm(ids, use_cache=False).last_hidden_state]
    norms.use_fused_norms(llm)
    calls = []
    llm.norm.register_forward_hook(lambda *_: calls.append(1))
    outputs.append(llm(ids, use_cache=False).last_hidden_state)
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        low = llm(ids, use_cache=False).last_hidden_state
    assert low.dtype == torch.bfloat16 and (low - outputs[0]).norm() < 0.02 * outputs[0].norm()
    assert len(calls) == 2 and sorted(model.state_dict()) == before
