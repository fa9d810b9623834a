"""A saved model is a plain transformers directory that says exactly what the model in training said."""

import resource
import shutil

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from minivlm.errors import UserError
from minivlm.files import read_json, sha256_tree, write_json
from minivlm.model import checkpoint
from minivlm.model.llava import assemble
from minivlm.model.vision_language import VisionLanguageLoss
from tests.unit.model.tiny import IMAGE_ID, IMAGE_TOKENS, MEAN, SIZE, STD


@pytest.fixture(scope="module")
def model(base):
    """As after a training: the projector is no longer what it was drawn as."""
    model = assemble(base, seed=1)
    with torch.no_grad():
        model.model.multi_modal_projector.linear_1.weight.normal_(std=0.3)
    return model


@pytest.fixture(scope="module")
def saved(model, base, tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved") / "model"
    checkpoint.save(model, base, directory, seed=5)
    return directory


def test_transformers_alone_gives_the_logits_of_training(model, saved):
    processor = transformers.AutoProcessor.from_pretrained(saved)
    loaded = transformers.AutoModelForImageTextToText.from_pretrained(saved)
    pixels = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    question = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "几只鸟？"}]}]
    text = processor.apply_chat_template(question, add_generation_prompt=True)
    inputs = processor(images=[Image.fromarray(pixels)], text=[text], return_tensors="pt")
    assert int((inputs["input_ids"] == IMAGE_ID).sum()) == IMAGE_TOKENS
    with torch.no_grad():
        logits = loaded(**inputs).logits
        embeddings = VisionLanguageLoss(model, MEAN, STD).embed(
            inputs["input_ids"],
            torch.from_numpy(pixels).permute(2, 0, 1)[None],
            torch.tensor([0]),
            (inputs["input_ids"][0] == IMAGE_ID).nonzero()[:, 0],
        )
        expected = model.lm_head(model.model.language_model(inputs_embeds=embeddings).last_hidden_state)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_every_weight_is_kept_bitwise_and_the_second_map_is_an_identity(model, saved):
    loaded = checkpoint.load(saved)
    for (name, tensor), (same, other) in zip(model.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert name == same and torch.equal(tensor, other), name
    assert torch.equal(loaded.model.multi_modal_projector.linear_2.weight, torch.eye(32))


def test_the_same_weights_give_the_same_bytes(model, base, saved, tmp_path):
    checkpoint.save(model, base, tmp_path / "again", seed=5)
    assert sha256_tree(tmp_path / "again") == sha256_tree(saved)


def test_what_is_saved_names_no_path_of_this_machine(base, saved):
    for file in saved.glob("*.json"):
        assert str(base.parent) not in file.read_text(encoding="utf-8"), file.name


def test_it_stops_at_the_end_of_a_turn(saved):
    config = transformers.GenerationConfig.from_pretrained(saved)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 1, 2)


def test_an_installed_torchvision_would_not_be_taken_for_pictures(saved):
    from transformers.image_processing_backends import PilBackend
    from transformers.models.auto.image_processing_auto import _load_backend_class

    named = read_json(saved / "processor_config.json")["image_processor"]["image_processor_type"]
    assert _load_backend_class(named, "torchvision") is PilBackend
    assert type(transformers.AutoProcessor.from_pretrained(saved).image_processor) is PilBackend


def test_pictures_are_prepared_as_by_clip_s_own_processor(base, saved):
    own = transformers.CLIPImageProcessorPil.from_pretrained(base / "vision_tower")
    ours = transformers.AutoProcessor.from_pretrained(saved).image_processor
    pixels = np.random.default_rng(1).integers(0, 255, (37, 61, 3), dtype=np.uint8)
    one, other = (each(Image.fromarray(pixels), return_tensors="np")["pixel_values"] for each in (own, ours))
    assert one.shape == (1, 3, SIZE, SIZE) and np.array_equal(one, other)


@pytest.mark.parametrize("fault", ["missing", "left over"])
def test_weights_that_do_not_fit_are_refused(saved, tmp_path, fault):
    directory = shutil.copytree(saved, tmp_path / "model")
    weights = load_file(directory / "model.safetensors")
    if fault == "missing":
        del weights["multi_modal_projector.linear_1.weight"]
    else:
        weights["multi_modal_projector.linear_3.weight"] = torch.zeros(2)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"multi_modal_projector\.linear"):
        checkpoint.load(directory)


def test_a_truncated_file_is_refused(saved, tmp_path):
    directory = shutil.copytree(saved, tmp_path / "model")
    content = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="model"):
        checkpoint.load(directory)


def test_a_projector_of_two_maps_is_refused(saved, tmp_path):
    directory = shutil.copytree(saved, tmp_path / "model")
    weights = load_file(directory / "model.safetensors")
    weights["multi_modal_projector.linear_2.weight"][0, 1] = 0.5
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="not one linear map"):
        checkpoint.load(directory)


def test_a_configuration_of_wrong_types_is_one_line(saved, tmp_path):
    directory = shutil.copytree(saved, tmp_path / "model")
    config = read_json(directory / "config.json")
    config["text_config"]["hidden_size"] = 32.5
    write_json(directory / "config.json", config)
    with pytest.raises(UserError, match="hidden_size") as caught:
        checkpoint.load(directory)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda config: config.pop("vision_config"), "tells of .* weights, its files have"),
        (lambda config: config.pop("text_config"), "tells of .* weights, its files have"),
        (lambda config: config["text_config"].update(hidden_size=10**12), "hidden_size 1000000000000 is not in"),
        (lambda config: config["text_config"].update(num_hidden_layers=10**9), "num_hidden_layers .* is not in"),
        (lambda config: config["text_config"].update(vocab_size=-5), "vocab_size -5 is not in"),
        (lambda config: config["text_config"].update(num_attention_heads=0), "ZeroDivisionError|num_attention"),
    ],
)
def test_a_configuration_of_a_model_that_no_memory_holds_is_refused_before_it_is_made(
    saved, tmp_path, change, said
):
    directory = shutil.copytree(saved, tmp_path / "model")
    config = read_json(directory / "config.json")
    change(config)
    write_json(directory / "config.json", config)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=said) as caught:
        checkpoint.load(directory)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_configuration_that_is_no_json_object_is_one_line(saved, tmp_path):
    directory = shutil.copytree(saved, tmp_path / "model")
    for content in ("", "[]", "{", "[" * 5000, "3"):
        (directory / "config.json").write_text(content)
        with pytest.raises(UserError, match=r"config\.json: not (JSON|a model's configuration)"):
            checkpoint.load(directory)
