"""The configuration: shapes first, then FILE.json, then the original's defaults; no contradiction goes by."""

import json

import pytest
import torch

from minivlm.errors import UserError
from minivlm.model.minimind import read_llm
from minivlm.model.minimind.configuration import configure, picture_token, read_fields, unknown_fields
from minivlm.model.minimind.state import read_state
from tests.numeric.original import Variant, random_state


@pytest.fixture
def checkpoint(source):
    return read_state(source / "checkpoint.pth")


def saved(tmp_path, variant, **more):
    torch.save(random_state(variant, 24) | more, tmp_path / "checkpoint.pth")
    return read_state(tmp_path / "checkpoint.pth")


def test_defaults_are_the_original_s(tmp_path):
    sizes = configure(saved(tmp_path, Variant(heads=8, kv=2, size=8)), {})
    assert (sizes.num_attention_heads, sizes.num_key_value_heads, sizes.head_dim) == (8, 2, 8)
    assert (sizes.rope_theta, sizes.rms_norm_eps, sizes.max_position_embeddings) == (1e6, 1e-5, 32768)
    assert (sizes.hidden_act, sizes.bos_token_id, sizes.eos_token_id) == ("silu", 1, 2)
    older = configure(saved(tmp_path, Variant(heads=8, kv=2, size=8, older=True)), {})
    assert older.max_position_embeddings == 8192


def test_both_generations_field_names_are_read(checkpoint):
    new = {"num_attention_heads": 4, "rms_norm_eps": 0.5, "max_position_embeddings": 99, "hidden_size": 64,
           "num_hidden_layers": 2, "num_key_value_heads": 2, "intermediate_size": 72}  # fmt: skip
    old = {"n_heads": 4, "norm_eps": 0.5, "max_seq_len": 99, "dim": 64, "n_layers": 2, "n_kv_heads": 2,
           "hidden_dim": 72}  # fmt: skip
    assert configure(checkpoint, new) == configure(checkpoint, old)


def test_fields_that_are_null_count_as_not_given(checkpoint):
    fields = {"num_attention_heads": 4, "num_key_value_heads": None, "intermediate_size": None}
    assert configure(checkpoint, fields) == configure(checkpoint, {"num_attention_heads": 4})


@pytest.mark.parametrize("given", [{"num_attention_heads": 4}, {"num_key_value_heads": 2}, {"n_kv_heads": 2}])
def test_one_of_the_head_counts_tells_the_other(checkpoint, given):
    sizes = configure(checkpoint, given)
    assert (sizes.num_attention_heads, sizes.num_key_value_heads) == (4, 2)


def test_a_head_count_that_nobody_told_is_asked_for(checkpoint):
    with pytest.raises(UserError, match="give num_attention_heads"):
        configure(checkpoint, {})


@pytest.mark.parametrize(
    "fields",
    [
        {"hidden_size": 128},
        {"dim": 128},
        {"vocab_size": 6400},
        {"num_hidden_layers": 8},
        {"intermediate_size": 1408},
        {"num_key_value_heads": 4},
        {"num_attention_heads": 3},
        {"num_attention_heads": 64},
        {"dim": 64, "hidden_size": 128},
    ],
)
def test_a_contradiction_is_one_line(checkpoint, fields):
    with pytest.raises(UserError) as error:
        configure(checkpoint, {"num_attention_heads": 4} | fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"use_moe": True}, "mixture of experts"),
        ({"inference_rope_scaling": True}, "rope scaling"),
        ({"rope_scaling": {"type": "yarn"}}, "rope scaling"),
        ({"tie_word_embeddings": False}, "tied"),
        ({"rope_tetha": 1e4}, "did you mean 'rope_theta'"),
        ({"rope_theta": "1e6"}, "rope_theta is '1e6'"),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0"),
        ({"max_position_embeddings": float("inf")}, "max_position_embeddings is inf"),
        ({"num_attention_heads": 4.5}, "num_attention_heads is 4.5"),
        ({"bos_token_id": -1}, "bos_token_id"),
        ({"bos_token_id": 320}, "bos_token_id is 320; there are 320 tokens"),
        ({"eos_token_id": 5000.0}, "eos_token_id is 5000; there are 320 tokens"),
        ({"image_token_id": 320}, "image_token_id is 320; there are 320 tokens"),
        ({"hidden_act": "sillu"}, "hidden_act 'sillu'"),
        ({"hidden_act": ["silu"]}, "hidden_act"),
    ],
)
def test_what_has_no_place_in_a_llama_is_refused_by_name(checkpoint, fields, said):
    with pytest.raises(UserError, match=said):
        configure(checkpoint, {"num_attention_heads": 4} | fields)


def test_whole_numbers_written_with_a_point_make_the_same_model(source):
    fields = {"num_attention_heads": 4, "hidden_size": 64, "n_layers": 2, "max_position_embeddings": 8192,
              "bos_token_id": 1, "eos_token_id": 2, "vocab_size": 320, "rope_theta": 10000}  # fmt: skip
    floats = {name: float(value) for name, value in fields.items()}
    one, other = (read_llm(source / "checkpoint.pth", some).config.to_dict() for some in (fields, floats))
    assert json.dumps(one) == json.dumps(other)


def test_what_does_not_matter_may_stand_there(checkpoint):
    fields = {"num_attention_heads": 4, "dropout": 0.3, "flash_attn": False, "use_moe": False,
              "transformers_version": "4.48.0", "rope_scaling": None}  # fmt: skip
    assert configure(checkpoint, fields) == configure(checkpoint, {"num_attention_heads": 4})
    assert unknown_fields(fields) == ("transformers_version",)


def rotary(size, theta, positions=40):
    angles = torch.outer(torch.arange(positions).double(), theta ** -(torch.arange(size // 2) / (size // 2)))
    return torch.cat([angles.cos()] * 2, 1).half(), torch.polar(torch.ones_like(angles), angles).to(
        torch.complex64
    )


def test_a_saved_rotary_table_tells_the_size_of_a_head_and_is_checked(tmp_path):
    table, _ = rotary(16, 5e4)
    with_table = saved(tmp_path, Variant(), **{"model.freqs_cos": table})
    assert configure(with_table, {"rope_theta": 5e4}).num_attention_heads == 4
    with pytest.raises(UserError, match=r"model\.freqs_cos is not the rotary table of theta 1e\+06"):
        configure(with_table, {})


def test_the_older_generation_s_rotary_table_is_checked_too(tmp_path):
    _, table = rotary(16, 5e4)
    with_table = saved(tmp_path, Variant(older=True), pos_cis=table)
    assert configure(with_table, {"rope_theta": 5e4}).num_attention_heads == 4
    with pytest.raises(UserError, match="pos_cis"):
        configure(with_table, {"rope_theta": 1e4})


def test_the_configuration_may_lie_within_another_file(tmp_path):
    path = tmp_path / "meta.json"
    path.write_text(json.dumps({"image_token_id": 7, "upstream_config": {"rope_theta": 3.0}}))
    assert read_fields(path) == {"image_token_id": 7, "rope_theta": 3.0}
    assert read_fields(None) == {}


@pytest.mark.parametrize("text", ["", "[1]", "{", "7"])
def test_a_file_that_is_no_configuration_is_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: not"):
        read_fields(tmp_path / "config.json")


def test_the_picture_token(tmp_path):
    assert picture_token(tmp_path, {}, 4) == 34
    assert picture_token(tmp_path, {"image_ids": [5] * 4, "image_token_id": None}, 4) == 5
    assert repr(picture_token(tmp_path, {"image_token_id": 5.0}, 4)) == "5"
    with pytest.raises(UserError, match="2 different tokens"):  # the first releases: 25 times '<', 25 times '>'
        picture_token(tmp_path, {"image_ids": [30] * 2 + [32] * 2}, 4)
    with pytest.raises(UserError, match="has 4 tokens, the vision tower gives 9"):
        picture_token(tmp_path, {"image_ids": [5] * 4}, 9)
