"""The reference that steps are timed against computes what the original computed: its loss and its gradients."""

import pytest
import torch

from benchmarks.reference import Reference
from tests.numeric.test_minimind_parity import golden  # noqa: F401


def batch(golden):  # noqa: F811
    return tuple(golden(f"train.{name}") for name in ("input_ids", "targets", "loss_mask", "pixel_values"))


@pytest.fixture
def reference(golden):  # noqa: F811
    golden.model.zero_grad()
    return Reference(golden.model).train()


def test_loss_and_logits_are_the_original_s(golden, reference):  # noqa: F811
    assert reference.loss(batch(golden)).item() == pytest.approx(float(golden.cases["train.loss"]), abs=1e-5)
    for case in ("train", "single"):
        pixels = golden(f"{case}.pixel_values")
        logits = reference(golden(f"{case}.input_ids"), pixels)
        assert (logits - golden(f"{case}.logits")).abs().max() <= 1e-4, case


def test_runs_that_are_cut_or_strewn_stay_text_as_in_the_original(golden, reference):  # noqa: F811
    for case in ("text_only", "quirk_stray", "quirk_truncated_run"):
        pixels = golden(f"{case}.pixel_values") if f"{case}.pixel_values" in golden.cases else None
        logits = reference(golden(f"{case}.input_ids"), pixels)
        assert (logits - golden(f"{case}.logits")).abs().max() <= 1e-4, case


def test_gradients_of_pretrain_are_the_original_s(golden, reference):  # noqa: F811
    reference.loss(batch(golden)).backward()
    projector = golden.model.model.multi_modal_projector.linear_1
    for gradient, name in ((projector.weight.grad, "proj_weight"), (projector.bias.grad, "proj_bias")):
        expected = golden(f"grad_pretrain.{name}")
        assert (gradient - expected).norm() <= 1e-4 * expected.norm(), name


def test_gradients_of_sft_are_the_original_s(golden, reference):  # noqa: F811
    reference.loss(batch(golden)).backward()
    ours = dict(golden.model.named_parameters())
    for key, norm in zip(golden.cases["grad_sft.names"], golden.cases["grad_sft.norms"], strict=True):
        gradient = ours[name_here(str(key))].grad
        assert gradient.norm().item() == pytest.approx(float(norm), rel=1e-4, abs=1e-6), key
    rows = ours[name_here("lm_head.weight")].grad.norm(dim=1)
    assert (rows - golden("grad_sft.embed_row_norms")).abs().max() <= 1e-5
    assert not any(p.grad is not None for p in golden.model.model.vision_tower.parameters())


def name_here(key):
    """The original's name of a parameter → transformers'."""
    if key == "lm_head.weight":
        return "model.language_model.embed_tokens.weight"  # tied
    if key.startswith("vision_proj."):
        return key.replace("vision_proj.vision_proj.0.", "model.multi_modal_projector.linear_1.")
    return key.replace("model.", "model.language_model.", 1)


def test_it_computes_logits_at_every_position_and_the_tower_for_every_row(golden, reference):  # noqa: F811
    seen = []
    golden.model.lm_head.register_forward_hook(lambda module, given, logits: seen.append(logits.shape[:2].numel()))
    towers = []
    golden.model.model.vision_tower.register_forward_hook(lambda *_: towers.append(1))
    ids = golden("train.input_ids")
    with torch.no_grad():
        reference.loss(batch(golden))
    assert seen == [ids.numel()]
    assert len(towers) == golden("train.pixel_values").shape[1]
