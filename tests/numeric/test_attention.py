"""Attention by matrix products against torch's own, and where each is taken."""

from types import SimpleNamespace

import pytest
import torch

from minivlm.model import attention
from minivlm.model.llava import assemble
from tests.families import FAMILIES
from tests.unit.model.tiny import VOCABULARY, write_base


def tensors(dtype, groups, length=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, 4, length, 8), (2, groups, length, 8), (2, groups, length, 8))
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("groups", [4, 2, 1])
def test_output_and_gradients_are_those_of_fp32_within_bf16(causal, groups):
    module = SimpleNamespace(is_causal=causal, num_key_value_groups=4 // groups)
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        inputs = tensors(dtype, groups)
        output, _ = attention.matmul_attention(module, *inputs, None)
        gradients = torch.autograd.grad(output.float().square().sum(), inputs)
        results.append([output.detach(), *gradients])
    for exact, ours in zip(*results, strict=True):
        assert ours.dtype == torch.bfloat16 and ours.shape == exact.shape
        assert (ours.float() - exact).norm() < 0.02 * exact.norm()


def test_a_causal_token_sees_nothing_that_comes_later():
    module = SimpleNamespace(is_causal=True, num_key_value_groups=2)
    query, key, value = tensors(torch.bfloat16, 2)
    before, _ = attention.matmul_attention(module, query, key, value, None)
    with torch.no_grad():
        key[:, :, 10:] += 3
        value[:, :, 10:] -= 5
    after, _ = attention.matmul_attention(module, query, key, value, None)
    assert torch.equal(before[:, :10], after[:, :10]) and not torch.equal(before[:, 10:], after[:, 10:])


@pytest.mark.parametrize("why", ["fp32", "mask", "long", "autocast off"])
def test_elsewhere_transformers_own_attention_is_called(monkeypatch, why):
    monkeypatch.setattr(attention, "sdpa_attention_forward", lambda *arguments, **others: ("sdpa", None))
    module = SimpleNamespace(is_causal=True, num_key_value_groups=2)
    low = why not in ("fp32", "autocast off")
    inputs = tensors(torch.bfloat16 if low else torch.float32, 2, attention.LONGEST + 1 if why == "long" else 8)
    mask = torch.zeros(2, 1, 8, 8) if why == "mask" else None
    assert attention.matmul_attention(module, *inputs, mask)[0] == "sdpa"
    if why == "autocast off":
        with torch.autocast("cpu", torch.bfloat16):
            assert attention.matmul_attention(module, *inputs, mask)[0] != "sdpa"


def test_a_language_model_takes_it_and_its_saved_configuration_does_not_name_it(tmp_path):
    model = assemble(write_base(tmp_path / "base"), seed=1)
    llm = model.model.language_model
    ids = torch.randint(VOCABULARY, (3, 20), generator=torch.Generator().manual_seed(0))
    losses = []
    for change in (lambda: None, lambda: attention.use_matmul_attention(llm)):
        change()
        with torch.autocast("cpu", torch.bfloat16):
            losses.append(llm(ids, use_cache=False).last_hidden_state)
    assert (losses[0] - losses[1]).norm() < 0.02 * losses[0].norm() and not torch.equal(*losses)
    model.save_pretrained(tmp_path / "model")
    assert attention.NAME not in (tmp_path / "model" / "config.json").read_text()


@pytest.mark.parametrize("name", sorted({family.split("+")[1] for family in FAMILIES}))
def test_every_family_computes_in_bf16_what_it_computes_with_its_own_attention(name, tmp_path):
    """Rows longer than Mistral's window among them; families with attention of their own are left alone."""
    from transformers import AutoModel

    llm = next(family.llm for pair, family in FAMILIES.items() if pair.endswith(f"+{name}"))
    llm(tmp_path)
    outputs = []
    for change in (False, True):
        model = AutoModel.from_pretrained(tmp_path, dtype=torch.float32)
        if change:
            attention.use_matmul_attention(model)
            plain = model.config.model_type in attention.PLAIN
            taken = model.config._attn_implementation in (attention.NAME, attention.MASKED)
            assert taken is plain is (name != "gpt_neox")
            window = getattr(model.config, "sliding_window", None)
            assert (model.config._attn_implementation == attention.MASKED) is bool(plain and window)
        ids = torch.randint(4, 300, (2, 60), generator=torch.Generator().manual_seed(0))
        with torch.autocast("cpu", torch.bfloat16):
            outputs.append(model(ids, use_cache=False).last_hidden_state)
    # The median token, because a router's choice between experts may turn on the last bit.
    apart = (outputs[0] - outputs[1]).norm(dim=-1) / outputs[0].norm(dim=-1)
    assert apart.median() < 0.03


def test_no_batch_is_searched_for_packed_rows(monkeypatch, tmp_path):
    from transformers import masking_utils

    searched = []
    search = masking_utils.find_packed_sequence_indices
    monkeypatch.setattr(
        masking_utils, "find_packed_sequence_indices", lambda ids: searched.append(1) or search(ids)
    )
    llm = assemble(write_base(tmp_path / "base"), seed=1).model.language_model
    ids = torch.arange(20)[None]
    before = llm(ids, use_cache=False).last_hidden_state
    assert searched
    attention.use_matmul_attention(llm)
    searched.clear()
    torch.testing.assert_close(llm(ids, use_cache=False).last_hidden_state, before)
    assert not searched
