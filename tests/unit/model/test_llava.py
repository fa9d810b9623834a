"""A LLaVA put together from three directories, and nothing in it drawn that should have been read."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from minivlm.errors import UserError
from minivlm.files import read_json, write_json
from minivlm.model.llava import assemble, tower_features
from tests.unit.model.tiny import IMAGE_ID, IMAGE_TOKENS, SIZE, write_base


@pytest.fixture
def copy(base, tmp_path):
    return shutil.copytree(base, tmp_path / "base")


def test_tower_and_language_model_are_bitwise_the_saved_ones(base):
    state = assemble(base, seed=1).state_dict()
    for part, prefix in (("vision_tower", "model.vision_tower."), ("llm", "model.language_model.")):
        for name, tensor in load_file(base / part / "model.safetensors").items():
            name = name.removeprefix("vision_model.").removeprefix("model.")
            assert torch.equal(state[prefix + name], tensor), name
    assert state["lm_head.weight"].data_ptr() == state["model.language_model.embed_tokens.weight"].data_ptr()


def test_the_configuration_is_that_of_the_parts(base):
    config = assemble(base, seed=1).config
    assert (config.image_token_id, config.image_seq_length, config.vision_feature_layer) == (
        IMAGE_ID,
        IMAGE_TOKENS,
        -2,
    )
    assert (config.projector_hidden_act, config.vision_feature_select_strategy) == ("linear", "default")
    assert config.multimodal_projector_bias is False


@pytest.mark.parametrize("bias", [False, True])
def test_the_projector_is_one_seeded_linear_map(base, bias):
    one, same, other = (
        assemble(base, seed=seed, projector_bias=bias).model.multi_modal_projector for seed in (1, 1, 2)
    )
    assert torch.equal(one.linear_1.weight, same.linear_1.weight)
    assert not torch.equal(one.linear_1.weight, other.linear_1.weight)
    assert torch.equal(one.linear_2.weight, torch.eye(32))
    assert (one.linear_1.bias is not None) is bias
    features = torch.randn(5, 24)
    assert torch.equal(one(features), one.linear_1(features))


def test_a_picture_s_tokens_are_about_as_long_as_words(base):
    model = assemble(base, seed=1)
    pixels = torch.nn.functional.interpolate(torch.randn(4, 3, 5, 5), (SIZE, SIZE), mode="bilinear")
    with torch.no_grad():
        projected = torch.stack(model.get_image_features(pixels).pooler_output).norm(dim=-1).mean()
    words = model.get_input_embeddings().weight.norm(dim=-1).mean()
    assert 0.7 < projected / words < 1.4


@pytest.mark.parametrize("layer", [-1, -2, -4, 0, 2, 3])
def test_features_are_the_hidden_state_of_the_layer_without_the_class_token(base, layer):
    tower = assemble(base, seed=1).model.vision_tower
    pixels = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        expected = tower(pixels, output_hidden_states=True).hidden_states[layer][:, 1:]
        assert torch.equal(tower_features(tower, pixels, layer), expected)


@pytest.mark.parametrize("part", ["llm", "vision_tower"])
@pytest.mark.parametrize("fault", ["missing", "left over", "shape"])
def test_weights_that_do_not_fit_are_refused(copy, part, fault):
    path = copy / part / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if "layers.1" in name and name.endswith("weight"))
    if fault == "missing":
        del weights[name]
    elif fault == "left over":
        weights["model.extra.weight"] = torch.zeros(2)
    else:
        weights[name] = torch.zeros(3, 3)
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=part):
        assemble(copy, seed=1)


def test_a_missing_part_is_refused(copy):
    (copy / "llm" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="llm"):
        assemble(copy, seed=1)
    shutil.rmtree(copy / "llm")
    with pytest.raises(UserError, match="run the stage that makes it"):
        assemble(copy, seed=1)


def test_a_vocabulary_too_small_for_the_tokenizer_is_refused(copy):
    path = copy / "tokenizer" / "tokenizer.json"
    tokenizer = read_json(path)
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] != "<image>"]
    del tokenizer["model"]["vocab"]["<image>"]
    write_json(path, tokenizer)
    with pytest.raises(UserError, match="no token <image>"):
        assemble(copy, seed=1)


def test_the_feature_layer_is_read_from_the_layout(tmp_path):
    assert assemble(write_base(tmp_path / "base", layer=-1), seed=1).config.vision_feature_layer == -1
