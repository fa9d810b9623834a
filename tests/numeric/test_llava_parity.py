"""Loss, gradients and padding, against transformers' own forward pass and against the original's outputs."""

import math
from pathlib import Path

import pytest
import torch

from minivlm.files import read_json
from minivlm.model.checkpoint import load_strictly
from minivlm.model.llava import assemble
from minivlm.model.vision_language import VisionLanguageLoss
from minivlm.training.optimizer import freeze
from tests.unit.model.tiny import MEAN, STD, Batch, collate, picture, rows, write_base

GOLDENS = Path(__file__).resolve().parents[3] / "shared" / "parity"
COMMITS = ("a857219", "a157b66")
PROJECTOR = "model.multi_modal_projector.linear_1.weight"


@pytest.fixture(scope="module", params=[-1, -2])
def model(request, tmp_path_factory):
    base = write_base(tmp_path_factory.mktemp("parity") / "base", layer=request.param)
    return assemble(base, seed=1, projector_bias=True)


def transformers_loss(model, some):
    """The sum over all rows, one at a time: nothing is padded, each row sees its own pictures."""
    total = torch.zeros(())
    for row in some:
        labels = torch.tensor([row.ids]).masked_fill(~torch.tensor([row.mask]), -100)
        pixels = None
        if row.pictures:
            pixels = torch.stack([picture(number) for number in row.pictures]) / 255
            pixels = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        mask = torch.ones_like(labels)
        outputs = model(input_ids=torch.tensor([row.ids]), pixel_values=pixels, attention_mask=mask, labels=labels)
        total = total + outputs.loss * sum(row.mask)
    return total


@pytest.mark.parametrize("policy", ["projector", "llm"])
def test_loss_and_gradients_are_transformers_own(model, policy):
    some = rows(9, seed=3)
    trained = freeze(model, policy)
    results = []
    for loss in (VisionLanguageLoss(model, MEAN, STD).train()(collate(some)), transformers_loss(model, some)):
        model.zero_grad()
        loss.backward()
        results.append((loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (ours, gradients), (expected, expected_gradients) = results
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    assert gradients.keys() == expected_gradients.keys() == trained.keys()
    for name, gradient in expected_gradients.items():
        assert (gradients[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


@pytest.mark.parametrize("policy", ["projector", "llm"])
def test_rows_without_pictures_alone_are_a_batch_too(model, policy):
    """The loss is transformers' own; the projector has no part in it, and its gradient is nothing but there."""
    some = [row for row in rows(9, seed=3) if not row.pictures]
    freeze(model, policy)
    model.zero_grad()
    loss = VisionLanguageLoss(model, MEAN, STD).train()(collate(some))
    loss.backward()
    assert loss.item() == pytest.approx(transformers_loss(model, some).item(), rel=1e-5)
    assert model.get_parameter(PROJECTOR).grad.count_nonzero() == 0


def test_padding_changes_neither_loss_nor_gradient(model):
    some = rows(5, seed=4)
    freeze(model, "llm")
    results = []
    for length in (0, 100):
        model.zero_grad()
        loss = VisionLanguageLoss(model, MEAN, STD)(collate(some, pad_to=length))
        loss.backward()
        results.append((loss.item(), model.get_parameter(PROJECTOR).grad.clone()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    assert (results[0][1] - results[1][1]).norm() <= 1e-5 * results[0][1].norm()


def test_a_batch_is_the_sum_of_its_rows(model):
    some = rows(5, seed=5)
    objective = VisionLanguageLoss(model, MEAN, STD)
    with torch.no_grad():
        alone = math.fsum(float(objective(collate([row]))) for row in some)
        assert float(objective(collate(some))) == pytest.approx(alone, rel=1e-6)


def test_the_picture_matters_and_each_row_sees_its_own(model):
    some = [row for row in rows(8, seed=6) if row.pictures]
    objective = VisionLanguageLoss(model, MEAN, STD)
    batch = collate(some)
    moved = Batch(
        batch.input_ids, batch.pixels, batch.picture_index.roll(1), batch.supervised, batch.targets, batch.tokens
    )
    with torch.no_grad():
        assert abs(float(objective(batch)) - float(objective(moved))) > 1e-3


@pytest.fixture(params=COMMITS)
def original(request, tmp_path):
    """(the original's weights as a LLaVA, its recorded cases)."""
    import numpy as np
    from transformers import CLIPVisionModel, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    folder = GOLDENS / request.param
    if not GOLDENS.is_dir():
        pytest.skip("the original's outputs are not here")
    meta = read_json(folder / "meta.json")
    upstream = meta["upstream_config"]
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
             "vocab_size", "rms_norm_eps", "max_position_embeddings", "hidden_act", "bos_token_id",
             "eos_token_id")  # fmt: skip
    tower = load_strictly(CLIPVisionModel, folder / "clip_vision")
    text = LlamaConfig(
        **{name: upstream[name] for name in names},
        rope_parameters={"rope_type": "default", "rope_theta": upstream["rope_theta"]},
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=tower.config,
            text_config=text,
            image_token_index=meta["image_token_id"],
            projector_hidden_act="linear",
            vision_feature_layer=-1,
            multimodal_projector_bias=True,
        )
    ).eval()
    model.model.vision_tower = tower
    weights = torch.load(folder / "pretrain_vlm_64.pth", weights_only=True)
    state = model.state_dict()
    with torch.no_grad():
        for name, tensor in weights.items():
            if name.startswith("vision_proj."):
                name = name.replace("vision_proj.vision_proj.0.", "model.multi_modal_projector.linear_1.")
            elif name != "lm_head.weight":
                name = name.replace("model.", "model.language_model.", 1)
            state[name].copy_(tensor)
        torch.nn.init.eye_(model.model.multi_modal_projector.linear_2.weight)
        model.model.multi_modal_projector.linear_2.bias.zero_()
    return model, np.load(folder / "cases.npz")


def test_loss_and_projector_gradients_are_the_original_s(original):
    model, cases = original
    freeze(model, "projector")
    ids, mask = torch.from_numpy(cases["train.input_ids"]), torch.from_numpy(cases["train.loss_mask"])
    pictures = torch.from_numpy(cases["train.pixel_values"])  # (rows, pictures, 1, 3, side, side), normalised
    pictures = pictures.flatten(0, -4)
    supervised = mask.flatten().nonzero().squeeze(1)
    targets = torch.from_numpy(cases["train.targets"]).flatten()[supervised]
    image = model.config.image_token_id
    batch = Batch(ids, pictures, torch.arange(len(pictures)), supervised, targets, ids.numel(), image_id=image)
    objective = VisionLanguageLoss(model, (0.0,) * 3, (1 / 255,) * 3)  # the pictures are normalised already
    loss = objective(batch) / batch.count
    loss.backward()
    assert loss.item() == pytest.approx(float(cases["train.loss"]), abs=1e-5)
    projector = model.model.multi_modal_projector.linear_1
    for gradient, name in ((projector.weight.grad, "proj_weight"), (projector.bias.grad, "proj_bias")):
        expected = torch.from_numpy(cases[f"grad_pretrain.{name}"])
        assert (gradient - expected).norm() <= 1e-4 * expected.norm(), name
