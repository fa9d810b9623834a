"""The small CLIP: sizes, the phrase head, and a start that whitens the patches."""

import pytest
import torch
from torch.nn import functional

from minivlm.model.clip import PhraseHead, initialize_tower, make_clip

SIDE, PATCH = 16, 4  # pixels; 16 patches of 48 numbers


def clip(width=24, **changed):
    sizes = dict(
        image_size=SIDE, patch_size=PATCH, hidden_size=width, layers=2, text_layers=1, heads=2,
        intermediate_size=32, projection_size=12, vocabulary=40, text_length=9, pad_token_id=0,
    )  # fmt: skip
    return make_clip(**(sizes | changed))


def pixels(number=64, seed=0):
    """Pictures whose channels and neighbours are alike, so that there is something to whiten."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(number, 3, SIDE, SIDE, generator=generator)
    return noise + 3 * functional.avg_pool2d(noise, 3, stride=1, padding=1) + noise.mean(1, keepdim=True)


def initialized(width=24, seed=0):
    torch.manual_seed(seed)
    tower = clip(width).vision_model
    initialize_tower(tower, pixels())
    return tower


def projected(tower, pictures):
    """(N * P, D): what the patch projection makes of them."""
    return tower.embeddings.patch_embedding(pictures).flatten(2).transpose(1, 2).flatten(0, 1).double()


@torch.no_grad()
def test_the_patch_outputs_are_white():
    covariance = torch.cov(projected(initialized(), pixels()).T)
    values = torch.linalg.eigvalsh(covariance)
    assert values.max() < 0.26  # 0.5 squared, of the patches it was made from
    assert values.min() > 0.2


@torch.no_grad()
def test_patches_are_far_from_white_without_the_start():
    torch.manual_seed(0)
    values = torch.linalg.eigvalsh(torch.cov(projected(clip().vision_model, pixels()).T))
    assert values.max() > 5 * values.min()


@torch.no_grad()
@pytest.mark.parametrize("width", [8, 48, 96])
def test_any_width_gives_a_finite_start_of_full_rank(width):
    tower = initialized(width)
    assert all(parameter.isfinite().all() for parameter in tower.parameters())
    outputs = tower(pixel_values=pixels()).last_hidden_state
    assert outputs.shape == (64, 1 + (SIDE // PATCH) ** 2, width)
    assert outputs.isfinite().all()
    weight = tower.embeddings.patch_embedding.weight.flatten(1)
    assert torch.linalg.matrix_rank(weight) == min(width, 3 * PATCH * PATCH)


@torch.no_grad()
def test_pictures_that_are_all_alike_give_a_finite_start():
    tower = clip().vision_model
    initialize_tower(tower, torch.full((8, 3, SIDE, SIDE), 0.5))
    assert all(parameter.isfinite().all() for parameter in tower.parameters())


def test_the_start_is_the_same_for_the_same_seed_only():
    one, two, other = initialized(seed=1).state_dict(), initialized(seed=1).state_dict(), initialized(seed=2)
    assert all(torch.equal(one[name], two[name]) for name in one)
    weight = "embeddings.patch_embedding.weight"
    assert not torch.equal(one[weight], other.state_dict()[weight])


@torch.no_grad()
def test_every_place_of_the_grid_has_its_own_position_and_the_class_token_none():
    positions = initialized().embeddings.position_embedding.weight
    assert not positions[0].any()
    distances = torch.cdist(positions[1:], positions[1:]) + torch.eye(len(positions) - 1)
    assert distances.min() > 0.1


@torch.no_grad()
def test_attention_starts_out_looking_at_its_like_and_subtracting_it():
    attention = initialized().encoder.layers[0].self_attn
    rows = slice(0, 12)  # the first of two heads
    looks = attention.q_proj.weight[rows].T @ attention.k_proj.weight[rows]
    writes = attention.out_proj.weight @ attention.v_proj.weight
    assert looks.trace() > 0
    assert writes.trace() < 0


def test_both_towers_have_the_width_asked_for():
    config = clip(24).config
    assert config.text_config.hidden_size == config.vision_config.hidden_size == 24
    assert (config.text_config.num_hidden_layers, config.vision_config.num_hidden_layers) == (1, 2)
    assert config.text_config.max_position_embeddings == 9
    assert config.projection_dim == 12


def test_phrases_are_read_from_all_patches_of_their_own_picture():
    torch.manual_seed(0)
    patches = torch.randn(2, 7, 24, requires_grad=True)
    logits = PhraseHead(24, torch.full((5,), 0.1))(patches)
    assert logits.shape == (2, 5)
    logits[0, 3].backward()
    assert patches.grad[0].any(dim=1).all()
    assert not patches.grad[1].any()


def test_untrained_the_head_says_how_common_each_phrase_is():
    frequency = torch.tensor([0.01, 0.2, 0.5])
    head = PhraseHead(24, frequency)
    torch.nn.init.zeros_(head.linear.weight)
    assert torch.allclose(head(torch.randn(4, 7, 24)).sigmoid(), frequency.expand(4, 3))
