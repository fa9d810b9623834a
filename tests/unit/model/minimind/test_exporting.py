"""Out again: identical where the original can hold it, refused by name where it cannot."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from minivlm.errors import UserError
from minivlm.files import read_json, write_json
from minivlm.model import checkpoint
from minivlm.model.llava import assemble
from minivlm.model.minimind import export_checkpoint, import_checkpoint
from minivlm.model.minimind.exporting import configuration
from tests.numeric.original import Variant, write_variant
from tests.unit.model.tiny import write_base


def test_a_round_trip_gives_identical_keys_and_tensors(imported, state, tmp_path):
    written = export_checkpoint(imported, tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert list(back) == list(written) == list(state)
    assert all(torch.equal(back[key], tensor) and back[key].dtype == tensor.dtype for key, tensor in state.items())


def test_without_a_projector_bias_there_is_none_in_the_file(tmp_path):
    source = write_variant(tmp_path, Variant(bias=False))
    import_checkpoint(source / "checkpoint.pth", source / "clip", source / "tokenizer", tmp_path / "model",
                      config=source / "config.json")  # fmt: skip
    assert "vision_proj.vision_proj.0.bias" not in export_checkpoint(tmp_path / "model", tmp_path / "back.pth")


def test_the_same_directory_gives_the_same_bytes(imported, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        export_checkpoint(imported, tmp_path / name / "a.pth")
    assert (tmp_path / "one" / "a.pth").read_bytes() == (tmp_path / "two" / "a.pth").read_bytes()


def test_the_pipeline_s_own_directory_is_exported_and_comes_back(tmp_path):
    """Bias-free, read at the last layer: weights return to half precision, and the configuration with them."""
    from transformers import CLIPVisionModel

    base = write_base(tmp_path / "base", layer=-1)
    model = assemble(base, seed=1)
    checkpoint.save(model, base, tmp_path / "model", seed=5)
    export_checkpoint(tmp_path / "model", tmp_path / "own.pth")
    write_json(tmp_path / "own.json", configuration(tmp_path / "model"))
    import_checkpoint(tmp_path / "own.pth", base / "vision_tower", base / "tokenizer", tmp_path / "back",
                      config=tmp_path / "own.json")  # fmt: skip
    back = checkpoint.load(tmp_path / "back").state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.allclose(tensor, back[name], rtol=1e-3, atol=1e-6), name
    assert back.keys() == model.state_dict().keys()
    assert CLIPVisionModel.from_pretrained(base / "vision_tower").dtype == torch.float32


def copied(imported, tmp_path):
    """A copy as somebody else would have made it: nothing says what it was saved with."""
    directory = shutil.copytree(imported, tmp_path / "model")
    (directory / "fingerprint.json").unlink()
    return directory


def changed(imported, tmp_path, change):
    """A copy with another config.json."""
    directory = copied(imported, tmp_path)
    config = read_json(directory / "config.json")
    change(config)
    write_json(directory / "config.json", config)
    return directory


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["text_config"].update(model_type="qwen2"), "language model is a qwen2, not a Llama"),
        (lambda c: c["text_config"].update(attention_bias=True), "has biases"),
        (lambda c: c["text_config"].update(mlp_bias=True), "has biases"),
        (lambda c: c["text_config"].update(head_dim=32), "4 heads of 32 are not the width 64"),
        (lambda c: c["text_config"].update(tie_word_embeddings=False), "not tied"),
        (
            lambda c: c["vision_config"].update(model_type="siglip_vision_model"),
            "a siglip_vision_model, not a CLIP",
        ),
        (lambda c: c.update(vision_feature_layer=-2), "layer -2, not of the last"),
        (lambda c: c.update(vision_feature_layer=[-1, -2]), "not of the last"),
        (lambda c: c.update(vision_feature_select_strategy="full"), "'full', not 'default'"),
        (lambda c: c.update(projector_hidden_act="gelu"), "activation 'gelu'"),
        (
            lambda c: c["text_config"].update(
                rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
            ),
            "positions of type 'linear'",
        ),
        (lambda c: c.update(model_type="llava_next"), "a llava_next, not a LLaVA"),
    ],
)
def test_what_the_original_cannot_hold_is_refused_by_name(imported, tmp_path, change, said):
    with pytest.raises(UserError, match=said):
        export_checkpoint(changed(imported, tmp_path, change), tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


def with_weight(imported, tmp_path, name, value):
    directory = copied(imported, tmp_path)
    weights = load_file(directory / "model.safetensors")
    key = next(key for key in weights if key.endswith(name))
    weights[key].flatten()[0] = value
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


@pytest.mark.parametrize("value", [65505.0 + 16, -7e4, 3e38])
def test_values_beyond_half_precision_are_refused_not_made_infinite(imported, tmp_path, value):
    directory = with_weight(imported, tmp_path, "layers.0.mlp.up_proj.weight", value)
    with pytest.raises(UserError, match=r"layers\.0\.mlp\.up_proj\.weight holds .* beyond half precision"):
        export_checkpoint(directory, tmp_path / "out.pth")


def test_values_that_are_no_numbers_are_refused(imported, tmp_path):
    directory = with_weight(imported, tmp_path, "layers.0.mlp.up_proj.weight", float("nan"))
    with pytest.raises(UserError, match="no finite number"):
        export_checkpoint(directory, tmp_path / "out.pth")


def test_a_second_map_that_is_no_identity_is_refused(imported, tmp_path):
    with pytest.raises(UserError, match="not one linear map"):
        export_checkpoint(with_weight(imported, tmp_path, "linear_2.weight", 2.0), tmp_path / "out.pth")


def test_no_model_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no model there"):
        export_checkpoint(tmp_path, tmp_path / "out.pth")


@pytest.mark.parametrize("name", ["rope_parameters", "rms_norm_eps", "bos_token_id"])
def test_a_configuration_that_leaves_a_value_to_its_default_is_refused_before_anything_is_written(
    imported, tmp_path, name
):
    """transformers fills it in; the original's configuration is read from the file, which has to say it."""
    directory = changed(imported, tmp_path, lambda config: config["text_config"].pop(name))
    with pytest.raises(UserError, match=rf"config\.json: does not say '{name}'"):
        export_checkpoint(directory, tmp_path / "x.pth")
    assert not (tmp_path / "x.pth").exists()
