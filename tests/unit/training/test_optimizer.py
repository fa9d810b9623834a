"""Freeze policies by name and by what moves; AdamW's groups; states."""

import pytest
import torch

from minivlm.errors import UserError
from minivlm.model.layers import layer_stack
from minivlm.model.llava import assemble
from minivlm.model.vision_language import VisionLanguageLoss
from minivlm.training.optimizer import (
    adamw,
    freeze,
    is_trained,
    parameter_groups,
    restore_state,
)
from minivlm.training.resume import trained_state
from tests.families import FAMILIES, write_base
from tests.unit.model.tiny import MEAN, STD, collate, rows

PROJECTOR = "model.multi_modal_projector.linear_1.weight"
LAYERS = {"projector": set(), "projector+last_layer": {2}, "first_last": {0, 2}, "llm": {0, 1, 2}}


def layers_of(names):
    return {int(name.split(".layers.")[1].split(".")[0]) for name in names if ".layers." in name}


@pytest.mark.parametrize("policy", LAYERS)
def test_a_policy_trains_what_it_says(base, policy):
    model = assemble(base, seed=1)
    trained = freeze(model, policy)
    assert PROJECTOR in trained and trained[PROJECTOR] == 24 * 32
    assert layers_of(trained) == LAYERS[policy]
    rest = {name for name in trained if ".layers." not in name} - {PROJECTOR}
    whole = {"model.language_model.embed_tokens.weight", "model.language_model.norm.weight"}
    assert rest == (whole if policy == "llm" else set())


def test_eleven_layers_are_told_from_one():
    trained = is_trained("first_last", 12)
    assert trained("model.language_model.layers.11.mlp.up_proj.weight")
    assert not trained("model.language_model.layers.1.mlp.up_proj.weight")
    assert not is_trained("llm", 12)("model.vision_tower.encoder.layers.0.mlp.fc1.weight")


@pytest.mark.parametrize("policy", LAYERS)
def test_what_is_trained_moves_and_what_is_frozen_stays_bitwise(base, policy):
    model = assemble(base, seed=1)
    trained = freeze(model, policy)
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    objective = VisionLanguageLoss(model, MEAN, STD).train()
    optimizer = adamw(objective, weight_decay=0.1)
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    objective(collate(rows(6))).backward()
    optimizer.step()
    moved = {name for name, tensor in model.named_parameters() if not torch.equal(tensor, before[name])}
    assert moved == set(trained)


def test_norms_biases_and_embeddings_do_not_decay(base):
    model = assemble(base, seed=1, projector_bias=True)
    freeze(model, "llm")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, spared = (
        {names[id(parameter)] for parameter in group["params"]} for group in parameter_groups(model, 0.1)
    )
    assert {name.rsplit(".", 2)[-2] for name in spared if "layers" in name} == {
        "input_layernorm",
        "post_attention_layernorm",
    }
    assert {name for name in spared if "layers" not in name} == {
        "model.multi_modal_projector.linear_1.bias",
        "model.language_model.embed_tokens.weight",
        "model.language_model.norm.weight",
    }
    assert all(name.endswith("proj.weight") or name == PROJECTOR for name in decayed)


def test_an_objective_without_trained_parameters_is_refused():
    with pytest.raises(ValueError, match="no parameter"):
        adamw(torch.nn.Linear(2, 2).requires_grad_(False), 0.0)


def test_a_state_is_a_copy_and_restores_exactly():
    module = torch.nn.Linear(3, 2)
    state = trained_state(module)
    before = module.weight.detach().clone()
    with torch.no_grad():
        module.weight.add_(1)
    restore_state(module, state)
    assert torch.equal(module.weight, before)
    with pytest.raises(KeyError, match="bias"):
        restore_state(module, {"weight": state["weight"]})


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    return assemble(write_base(FAMILIES[request.param], tmp_path_factory.mktemp("family")), seed=1)


@pytest.mark.parametrize(
    ("policy", "expected"), [("projector", []), ("projector+last_layer", [1]), ("first_last", [0, 1])]
)
def test_a_policy_finds_the_layers_of_any_family(family, policy, expected):
    trained = freeze(family, policy)
    stack = layer_stack(family.model.language_model, 2)
    names = {name.removeprefix("model.language_model.") for name in trained} - {PROJECTOR}
    assert sorted({int(name.removeprefix(f"{stack}.").split(".")[0]) for name in names}) == expected
    layer = family.model.language_model.get_submodule(stack)[1]
    assert expected == [] or {f"{stack}.1.{name}" for name, _ in layer.named_parameters()} <= names


def test_the_policy_llm_trains_every_weight_of_any_family(family):
    trained = freeze(family, "llm")
    llm = {name for name, _ in family.named_parameters() if name.startswith(("model.language_model.", "lm_head."))}
    assert set(trained) == llm | {PROJECTOR}
    untied = family.lm_head.weight is not family.get_input_embeddings().weight
    assert ("lm_head.weight" in trained) is untied
    assert not any("vision_tower" in name or "linear_2" in name for name in trained)


def test_a_model_without_a_list_of_layers_is_refused():
    with pytest.raises(UserError, match="has no list of 3 layers"):
        layer_stack(torch.nn.Linear(2, 2), 3)
