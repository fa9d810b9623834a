"""Every key of a checkpoint is accounted for, or the file is refused in one line that names it."""

import pickle

import pytest
import torch

from minivlm.errors import UserError
from minivlm.model.minimind.state import read_state
from tests.numeric.original import Variant, older_names, random_state

KEY = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def read(tmp_path):
    def save_and_read(content):
        torch.save(content, tmp_path / "checkpoint.pth")
        return read_state(tmp_path / "checkpoint.pth")

    return save_and_read


def refused(read, content):
    with pytest.raises(UserError) as error:
        read(content)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_all_weights_are_read_exactly(read, state):
    checkpoint = read(state)
    assert not checkpoint.interleaved
    assert torch.equal(checkpoint.llm["layers.1.mlp.up_proj.weight"], state[KEY].float())
    assert checkpoint.projector.keys() == {"weight", "bias"}
    assert checkpoint.sizes["layers"] == 2
    assert len(checkpoint.llm) + len(checkpoint.projector) + 1 == len(state)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_prefixes_come_off(read, state, prefix):
    plain, wrapped = read(state), read({f"{prefix}{key}": tensor for key, tensor in state.items()})
    assert plain.llm.keys() == wrapped.llm.keys() and plain.projector.keys() == wrapped.projector.keys()


def test_a_prefix_that_hides_a_second_tensor_is_refused(read, state):
    assert "prefix" in refused(read, state | {f"module.{KEY}": state[KEY] + 1})


def test_a_trainer_s_file_to_resume_from_is_read_for_its_model(read, state):
    resumed = {"model": state, "optimizer": {"state": {}, "param_groups": []}, "epoch": 1, "step": 7}
    assert read(resumed).llm.keys() == read(state).llm.keys()


def test_missing_unknown_and_misshaped_keys_are_listed_together(read, state):
    del state[KEY]
    state["model.layers.0.self_attn.q_norm.weight"] = torch.ones(16)
    state["model.norm.weight"] = torch.ones(3)
    message = refused(read, state)
    assert "missing: layers.1.mlp.up_proj.weight" in message
    assert "unknown: model.layers.0.self_attn.q_norm.weight" in message
    assert "of another shape: norm.weight [3]" in message


def test_a_layer_that_is_missing_in_the_middle_is_missing(read, state):
    far = {key.replace("layers.1", "layers.2"): tensor for key, tensor in state.items()}
    assert "missing: layers.1." in refused(read, far)


def test_a_layer_number_out_of_all_bounds_is_no_list_of_millions(read, state):
    message = refused(read, state | {"model.layers.99999999.input_layernorm.weight": torch.ones(64)})
    assert "layers.99999999" in message and len(message) < 1000


def test_an_embedding_that_is_not_tied_is_refused(read, state):
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    assert "lm_head.weight differs" in refused(read, state)


def test_a_missing_second_copy_is_missing(read, state):
    del state["lm_head.weight"]
    assert "missing: lm_head.weight" in refused(read, state)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(read, state, value):
    state[KEY] = state[KEY].clone()
    state[KEY][0, 0] = value
    assert "not finite numbers: layers.1.mlp.up_proj.weight" in refused(read, state)


def test_a_mixture_of_experts_is_refused_by_name(read, state):
    state["model.layers.0.mlp.experts.0.gate_proj.weight"] = torch.ones(2, 2)
    assert "mixture of experts" in refused(read, state)


def test_whole_numbers_are_no_weights(read, state):
    state[KEY] = state[KEY].int()
    assert f"unknown: {KEY}" in refused(read, state)


def test_the_older_generation_is_known_by_its_names(read, state):
    checkpoint = read(older_names(state))
    assert checkpoint.interleaved
    assert checkpoint.llm.keys() == read(state).llm.keys()


def test_the_two_generations_do_not_mix(read, state):
    old = {key: tensor for key, tensor in older_names(state).items() if "layers.0" in key}
    assert "unknown: layers.0." in refused(read, state | old)


def test_a_causal_mask_of_the_older_code_is_known_and_any_other_is_not(read, state):
    old = older_names(state)
    causal = torch.full((1, 1, 8, 8), float("-inf")).triu(1)
    assert read(old | {"layers.0.attention.mask": causal}).interleaved
    assert "layers.0.attention.mask" in refused(read, old | {"layers.0.attention.mask": causal * 0})


def test_a_bare_language_model_has_no_projector(read):
    assert read(random_state(Variant(bias=None), 24)).projector == {}


def test_a_projector_with_a_bias_alone_misses_its_weight(read, state):
    del state["vision_proj.vision_proj.0.weight"]
    assert "missing: vision_proj.vision_proj.0.weight" in refused(read, state)


class Planted:
    def __reduce__(self):
        return print, ("planted code ran",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_file_is_never_run(tmp_path, capsys):
    torch.save({"weight": Planted()}, tmp_path / "a.pth")
    with (tmp_path / "b.pth").open("wb") as stream:
        pickle.dump({"weight": Planted()}, stream)
    for name in ("a.pth", "b.pth"):
        with pytest.raises(UserError, match="weights_only"):
            read_state(tmp_path / name)
    assert "planted" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["text", "empty", "cut short", "list", "no tensors", "missing", "folder"])
def test_what_is_no_checkpoint_is_one_clear_line(tmp_path, state, kind):
    path = tmp_path / "checkpoint.pth"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    elif kind == "empty":
        path.touch()
    elif kind == "cut short":
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[:20_000])
    elif kind == "list":
        torch.save([torch.ones(1)], path)
    elif kind == "no tensors":
        torch.save({"a": 1, "b": "c"}, path)
    with pytest.raises(UserError) as error:
        read_state(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_a_checkpoint_that_is_packed_is_refused_before_it_fills_the_memory(state, tmp_path):
    """torch.save stores its members as they are; packed, a gigabyte of zeros is a megabyte."""
    import zipfile

    torch.save(state, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "x.pth", "w") as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name), zipfile.ZIP_DEFLATED)
    assert read_state(tmp_path / "plain.pth").sizes["layers"] == 2
    with pytest.raises(UserError, match=r"x\.pth: not written by torch\.save: .* in it is packed"):
        read_state(tmp_path / "x.pth")


def test_a_key_that_breaks_the_line_is_shown_on_one(read, state):
    """Found by fuzzing."""
    said = refused(read, state | {"model.layer\n.0.x\x1b[31m": state[KEY]})
    assert r"unknown: model.layer\n.0.x\x1b[31m" in said


@pytest.mark.parametrize("error", [AssertionError("storage key not found"), MemoryError(), KeyError("x")])
def test_whatever_torchs_reader_raises_is_one_line(read, state, monkeypatch, error):
    """An assertion for a key that is gone was found by fuzzing."""

    def load(*_, **__):
        raise error

    monkeypatch.setattr(torch, "load", load)
    assert "damaged or not written by torch.save" in refused(read, state)
