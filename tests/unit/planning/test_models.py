"""The weights of the true sizes, counted in the real classes without storage."""

import pytest

from minivlm.errors import UserError
from minivlm.planning.models import image_tokens, llm_config, tower_config, vocabulary, weights

LLM, TOWER = 25_829_888, 85_799_424
PROJECTOR, IDENTITY = 768 * 512, 512 * 512
LAYER = 512 * (512 + 2 * 128 + 512) + 3 * 512 * 1408 + 2 * 512  # q, k and v, o; gate, up, down; two norms


def counted(params, present, policy):
    tower, llm = tower_config(params, present), llm_config(params, present)
    return weights(tower.config, llm.config, params.base.vision_feature_layer, policy)


@pytest.mark.parametrize("profile", ["4090", "26m-random"])
def test_the_full_recipe_has_the_originals_numbers_of_weights(with_profile, profile):
    found = counted(*with_profile(profile), "projector")
    assert round(found.language_model / 1e6, 1) == 25.8 and found.language_model == LLM
    assert found.language_model == 8 * LAYER + 6400 * 512 + 512
    assert round(found.projector / 1e6, 2) == 0.39 and found.projector == PROJECTOR == 393_216
    assert found.identity == IDENTITY == 262_144
    assert found.vision_tower == TOWER
    assert found.saved == LLM + TOWER + PROJECTOR + IDENTITY


@pytest.mark.parametrize(
    ("policy", "beside"),
    [("projector", 0), ("projector+last_layer", LAYER), ("first_last", 2 * LAYER), ("llm", LLM)],
)
def test_each_freeze_policy_trains_what_it_says_and_never_the_tower(with_profile, policy, beside):
    found = counted(*with_profile("4090"), policy)
    assert sum(found.trained.values()) == PROJECTOR + beside
    assert not [name for name in found.trained if "vision_tower" in name or "linear_2" in name]


def test_both_stages_of_the_full_recipe_train_what_the_originals_do(with_profile):
    params, present = with_profile("4090")
    assert sum(counted(params, present, params.pretrain.freeze).trained.values()) == 393_216
    assert sum(counted(params, present, params.sft.freeze).trained.values()) == 26_223_104


def test_a_picture_is_196_tokens_and_the_vocabulary_6400(with_profile):
    params, present = with_profile("4090")
    assert image_tokens(tower_config(params, present)).value == 196
    assert vocabulary(params, present).value == 6400


def test_a_vocabulary_that_is_yet_to_be_learned_is_a_bound(with_profile):
    found = vocabulary(*with_profile(None))
    assert (found.value, found.exact) == (1024, False)


def test_a_repository_without_stated_sizes_is_unknown_until_its_config_is_here(with_profile, checkout):
    params, present = with_profile("4090")
    stated = params.base.vision_tower.pretrained
    bare = stated.model_copy(update={"config": {}, "revision": "a" * 40})
    tower = params.base.vision_tower.model_copy(update={"pretrained": bare})
    params = params.model_copy(update={"base": params.base.model_copy(update={"vision_tower": tower})})
    found = tower_config(params, present)
    assert found.config is None and "openai/clip-vit-base-patch16 is not on this machine" in found.source

    snapshot = checkout.root / "hub" / "models--openai--clip-vit-base-patch16" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(
        '{"model_type": "clip", "vision_config": {"patch_size": 32, "hidden_size": 48}}', encoding="utf-8"
    )
    found = tower_config(params, present)
    assert (found.config.patch_size, found.config.hidden_size) == (32, 48)

    (snapshot / "config.json").write_text('{"model_type": "clip_vision_model", "hidden_size": 50}')
    found = tower_config(params, present)
    assert found.config is None and "multiple of the number of attention heads" in found.source


def test_a_minimind_checkpoints_feed_forward_width_follows_from_its_width(with_profile):
    params, present = with_profile("4090")
    stated = params.base.llm.pretrained
    sizes = {name: value for name, value in stated.config.items() if name != "intermediate_size"}
    llm = params.base.llm.model_copy(update={"pretrained": stated.model_copy(update={"config": sizes})})
    params = params.model_copy(update={"base": params.base.model_copy(update={"llm": llm})})
    assert llm_config(params, present).config.intermediate_size == 1408


def stating(params, **sizes):
    """The parameters with other sizes of the language model's checkpoint."""
    stated = params.base.llm.pretrained
    llm = params.base.llm.model_copy(
        update={"pretrained": stated.model_copy(update={"config": dict(stated.config) | sizes})}
    )
    return params.model_copy(update={"base": params.base.model_copy(update={"llm": llm})})


def test_whole_numbers_written_with_a_point_are_sizes_too(with_profile):
    params, present = with_profile("4090")
    floats = {name: float(size) for name, size in params.base.llm.pretrained.config.items() if size == 512}
    assert floats, "or nothing would be tested"
    found = llm_config(stating(params, **floats, max_position_embeddings=8192.0), present).config
    assert (found.hidden_size, found.max_position_embeddings) == (512, 8192)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"hidden_size": 512.5}, "hidden_size is 512.5"),
        ({"num_attention_heads": 7}, "multiple of the number of attention heads"),
        ({"eos_token_id": 6400}, "eos_token_id is 6400; there are 6400 tokens"),
        ({"pad_token_id": "zero"}, "pad_token_id"),
    ],
)
def test_stated_sizes_that_make_no_model_are_one_line(with_profile, sizes, said):
    params, present = with_profile("4090")
    with pytest.raises(UserError, match=rf"^base\.llm\.pretrained\.config: .*{said}") as error:
        llm_config(stating(params, **sizes), present)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("family", ["Qwen2", "Qwen3", "Qwen3Moe"])
@pytest.mark.parametrize("seeing", ["CLIP", "Siglip"])
def test_other_families_are_counted_in_their_own_classes(family, seeing):
    import transformers

    llm = getattr(transformers, f"{family}Config")(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    tower = getattr(transformers, f"{seeing}VisionConfig")(
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    found = weights(tower, llm, -1, "llm")
    real = getattr(transformers, f"{family}ForCausalLM")(llm)
    assert found.language_model == sum(p.numel() for p in real.parameters())
    assert sum(found.trained.values()) == found.projector + found.language_model
    assert found.projector == 24 * 32
