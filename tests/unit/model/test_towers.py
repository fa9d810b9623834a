"""Towers by somebody else: the features of their own models, strictly loaded, the rest refused in one line."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from minivlm.data.encoding import image_token_count
from minivlm.data.pictures import Preparation
from minivlm.errors import UserError
from minivlm.files import read_json, write_json
from minivlm.model.checkpoint import make_processor
from minivlm.model.llava import assemble, tower_features
from minivlm.model.parts import load_tower
from minivlm.training.pretrained import bring_vision_tower
from tests import families
from tests.families import PATCH, SIDE

KINDS = {"clip": families.clip, "siglip": families.siglip, "siglip2": families.siglip2}
LAYERS = [-1, -2, -4, 0, 3]


def noise(seed=0, size=(SIDE, SIDE)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8))


def own_hidden_states(source, picture):
    """What the source's own model and processor make of a picture, by transformers' Auto classes."""
    from transformers import AutoImageProcessor, AutoModel

    model = AutoModel.from_pretrained(source)
    model = getattr(model, "vision_model", model)
    inputs = AutoImageProcessor.from_pretrained(source, backend="pil")(images=picture, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs, output_hidden_states=True).hidden_states


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("full", [False, True], ids=["vision", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_the_model_that_was_brought(tmp_path, kind, full, layer):
    KINDS[kind](tmp_path / "source", full=full)
    base = tmp_path / "base"
    bring_vision_tower(tmp_path / "source", base / "vision_tower")
    tower = load_tower(base / "vision_tower")
    expected = own_hidden_states(tmp_path / "source", noise())[layer]
    values = read_json(base / "vision_tower" / "preprocessor_config.json")
    del values["image_processor_type"]
    from transformers.image_processing_backends import PilBackend

    pixels = PilBackend(**values)(noise(), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        found = tower_features(tower, pixels, layer)
        as_llava_reads = tower(pixels, output_hidden_states=True).hidden_states[layer]
    if kind == "clip":
        expected, as_llava_reads = expected[:, 1:], as_llava_reads[:, 1:]
    assert found.shape == (1, image_token_count(base / "vision_tower"), 24)
    assert torch.equal(found, as_llava_reads)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_llava_projects_the_features_that_training_computes(tmp_path, kind):
    base = families.write_base(families.Family(KINDS[kind], families.llama), tmp_path, layer=-2)
    model = assemble(base, seed=1)
    processor = make_processor(base, model.config)
    inputs = processor(images=[noise(1, (40, 20)), noise(2)], text=["<image>", "<image>"], return_tensors="pt")
    count = int((inputs["input_ids"] == model.config.image_token_id).sum())
    assert count == 2 * model.config.image_seq_length == 2 * (SIDE // PATCH) ** 2
    with torch.no_grad():
        features = torch.stack(list(model.get_image_features(inputs["pixel_values"]).pooler_output))
        tower = tower_features(model.model.vision_tower, inputs["pixel_values"], -2)
        torch.testing.assert_close(features, model.model.multi_modal_projector(tower))


def test_a_tower_without_a_class_token_is_read_whole(tmp_path):
    base = families.write_base(families.Family(families.siglip, families.llama), tmp_path)
    model = assemble(base, seed=1)
    processor = make_processor(base, model.config)
    assert model.config.vision_feature_select_strategy == processor.vision_feature_select_strategy == "full"
    assert processor.num_additional_image_tokens == 0
    assert not [name for name in model.state_dict() if "vision_tower.head" in name]


@pytest.mark.parametrize("layer", [-5, 4])
def test_a_layer_that_the_tower_has_not_is_refused(tmp_path, layer):
    base = families.write_base(families.Family(families.siglip, families.llama), tmp_path)
    write_json(base / "layout.json", {"vision_feature_layer": layer})
    with pytest.raises(UserError, match=f"vision_feature_layer {layer} is not in -4 to 3"):
        assemble(base, seed=1)


def test_preparations_of_old_files_are_spelt_out(tmp_path):
    families.clip(tmp_path / "source")
    values = {
        "feature_extractor_type": "CLIPFeatureExtractor", "size": SIDE, "crop_size": SIDE, "resample": 3,
        "do_center_crop": True, "do_resize": True, "do_normalize": True,
        "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2],
    }  # fmt: skip
    write_json(tmp_path / "source" / "preprocessor_config.json", values)
    bring_vision_tower(tmp_path / "source", tmp_path / "tower")
    assert Preparation.read(tmp_path / "tower") == Preparation(SIDE, SIDE, 3)


def test_keys_of_older_files_and_a_contrastive_projection_may_be_there(tmp_path):
    families.clip(tmp_path / "source")
    path = tmp_path / "source" / "model.safetensors"
    weights = load_file(path)
    prefix = next(iter(weights)).split("embeddings")[0] if "embeddings" in next(iter(weights)) else ""
    extra = {f"{prefix}embeddings.position_ids": torch.arange(5)[None]}
    extra["visual_projection.weight"] = torch.ones(2, 24)
    save_file(weights | extra, path, metadata={"format": "pt"})
    bring_vision_tower(tmp_path / "source", tmp_path / "tower")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("type", "dinov2 is no vision tower that is known here; known are clip_vision_model, clip, siglip"),
        ("key", "not those of CLIPVisionModel: unexpected keys: surplus.weight"),
        ("missing", "missing keys: .*layers.1"),
        ("preprocessor", "preprocessor_config.json: not found; it says how pictures are prepared"),
        ("size", "its pictures are made 24 pixels wide, its tower takes 16"),
        ("json", "config.json: not a model's configuration"),
        ("nothing", "config.json: not found"),
        ("mean", "image_mean must be three numbers"),
        ("code", r"config.json: '\\n' is no vision tower"),
        ("a list", "is no vision tower that is known here"),
        ("colours", "its pictures have 1 colours, and 3 are given here"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, fault, message):
    source = tmp_path / "source"
    families.clip(source)
    weights = load_file(source / "model.safetensors")
    if fault == "type":
        write_json(source / "config.json", {"model_type": "dinov2"})
    elif fault in ("code", "a list"):
        write_json(source / "config.json", {"model_type": "\n" if fault == "code" else ["clip_vision_model"]})
    elif fault == "colours":
        values = {"num_channels": 1}
        write_json(source / "config.json", read_json(source / "config.json") | values)
        name = next(name for name in weights if "patch_embedding" in name)
        weights[name] = weights[name][:, :1].contiguous()
        save_file(weights, source / "model.safetensors", {"format": "pt"})
    elif fault == "key":
        save_file(weights | {"surplus.weight": torch.zeros(2)}, source / "model.safetensors", {"format": "pt"})
    elif fault == "missing":
        some = {name: tensor for name, tensor in weights.items() if "layers.1" not in name}
        save_file(some, source / "model.safetensors", {"format": "pt"})
    elif fault == "preprocessor":
        (source / "preprocessor_config.json").unlink()
    elif fault == "size":
        values = read_json(source / "preprocessor_config.json")
        crop = {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}}
        write_json(source / "preprocessor_config.json", values | crop)
    elif fault == "json":
        (source / "config.json").write_text("[]")
    elif fault == "mean":
        values = read_json(source / "preprocessor_config.json")
        kept = {key: value for key, value in values.items() if key not in ("image_mean", "image_std")}
        write_json(source / "preprocessor_config.json", kept)
    else:
        (source / "config.json").unlink()
    with pytest.raises(UserError, match=message) as caught:
        bring_vision_tower(source, tmp_path / "tower")
    assert "\n" not in str(caught.value)


BAD_VALUES: dict[str, list[object]] = {
    "image_mean": [None, "abc", 0.5, {"r": 1}, [0.5], *([0.1, 0.2, x] for x in ("x", True, 1e300, 10**400, None))],
    "image_std": ["abc", [0, 0, 0], [0.2, 0.2, -0.2], [0.2, 0.2, 1e-320]],
    "rescale_factor": ["1/255", None, [1], 10**400],
    "crop_size": [[16, 16], {"height": "16", "width": "16"}],
    "size": ["large", *({"shortest_edge": edge} for edge in ("16", 16.5, True, 0, 10**9))],
    "resample": [[], True, "3", 9],
}
SAID = {"crop_size": "must become squares", "size": "must become squares|no way to resize"}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in BAD_VALUES.items() for value in values]
)
def test_a_value_of_another_kind_is_refused_in_one_line(tmp_path, key, value):
    source = tmp_path / "source"
    families.clip(source)
    path = source / "preprocessor_config.json"
    write_json(path, read_json(path) | {key: value})
    with pytest.raises(UserError, match=f"^{path}: .*({SAID.get(key, key)})") as caught:
        bring_vision_tower(source, tmp_path / "tower")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[]", "7", "{", "[" * 5000, '{"size": "\\ud800"}', '{"image_processor": []}'])
def test_a_file_that_says_no_preparation_is_refused_in_one_line(tmp_path, content):
    source = tmp_path / "source"
    families.clip(source)
    (source / "preprocessor_config.json").unlink()
    name = "processor_config.json" if "image_processor" in content else "preprocessor_config.json"
    (source / name).write_text(content)
    with pytest.raises(UserError, match=r"processor_config\.json: ") as caught:
        bring_vision_tower(source, tmp_path / "tower")
    assert "\n" not in str(caught.value)
