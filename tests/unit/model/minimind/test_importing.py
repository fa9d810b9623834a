"""The written directory: standard, the same every time, and refused in one line where the parts do not fit."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from minivlm.errors import UserError
from minivlm.files import read_json, sha256_tree, write_json
from minivlm.model import checkpoint
from minivlm.model.fingerprint import check_fingerprint
from minivlm.model.minimind import import_checkpoint
from minivlm.model.minimind.processor import twin
from tests.numeric.original import Variant, random_state, write_clip, write_variant


def again(source, out, **changed):
    """The import, with some arguments changed."""
    names = ("checkpoint", "vision", "tokenizer")
    parts = {"checkpoint": source / "checkpoint.pth", "vision": source / "clip", "tokenizer": source / "tokenizer"}
    config = changed.pop("config", source / "config.json")
    number, force = changed.pop("image_token_id", None), changed.pop("force", False)
    parts |= changed
    return import_checkpoint(
        *(parts[name] for name in names), out, config=config, image_token_id=number, force=force
    )


def test_the_same_files_give_the_same_bytes_and_no_path_of_this_machine(source, imported, tmp_path):
    again(source, tmp_path / "again")
    assert sha256_tree(tmp_path / "again") == sha256_tree(imported)
    for file in imported.iterdir():
        if file.suffix != ".safetensors":
            assert str(source) not in file.read_text(encoding="utf-8"), file.name


def test_it_is_a_directory_as_the_pipeline_s_own(imported):
    """`minivlm.model.checkpoint.load` takes it, one linear map and all; and its fingerprint holds."""
    check_fingerprint(checkpoint.load(imported), imported)
    names = {file.name for file in imported.iterdir()}
    assert names >= {
        "config.json",
        "generation_config.json",
        "processor_config.json",
        "tokenizer.json",
        "README.md",
    }
    assert read_json(imported / "generation_config.json")["eos_token_id"] == 2


def test_the_card_tells_a_hub_nothing_that_the_importer_cannot_know(imported):
    """A checkpoint of somebody's own is none of jingyaogong's; what is usual is said to people, as that."""
    _, front, text = (imported / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert "base_model" not in front and "datasets" not in front and "license: other" in front
    assert "usually made from" in text and "- `jingyaogong/minimind-v_dataset`: Apache-2.0" in text
    assert "| the checkpoint checkpoint.pth | see its publisher |" in text and "none of others" not in text


def test_pictures_are_resized_by_pillow_whatever_is_installed(imported):
    named = read_json(imported / "processor_config.json")["image_processor"]["image_processor_type"]
    assert named == "PilBackend"


def test_a_bare_language_model_gets_a_drawn_projector_and_says_so(tmp_path):
    source = write_variant(tmp_path, Variant(bias=None))
    done = again(source, tmp_path / "model")
    assert done.projector == "drawn"
    model = checkpoint.load(tmp_path / "model")
    assert model.model.multi_modal_projector.linear_1.weight.abs().sum() > 0
    assert "**The projector is not trained.**" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    again(source, tmp_path / "same")
    assert sha256_tree(tmp_path / "same") == sha256_tree(tmp_path / "model")


def test_another_picture_token_can_be_named(source, tmp_path):
    done = again(source, tmp_path / "model", image_token_id=3)
    assert (done.image_token, done.image_token_id) == ("!", 3)
    assert read_json(tmp_path / "model" / "config.json")["image_token_index"] == 3
    assert read_json(tmp_path / "model" / "processor_config.json")["image_token"] == "!"


def test_the_stand_in_of_a_typed_picture_token_is_another_token(imported):
    from tokenizers import normalizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(imported)
    assert (
        twin(tokenizer, "@") == "＠" and twin(tokenizer, "<image>") == "＜image>" and twin(tokenizer, "图") == "〓"
    )
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()  # which turns '＠' into '@'
    assert twin(tokenizer, "@") == "〓"


@pytest.mark.parametrize("number", [-1, 259, 319, 5000])
def test_a_picture_token_that_is_none_is_refused(source, tmp_path, number):
    with pytest.raises(UserError, match="--image-token-id: no token"):
        again(source, tmp_path / "model", image_token_id=number)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_token_that_frames_texts_cannot_stand_for_pictures(source, tmp_path, number):
    with pytest.raises(UserError, match=f"token {number} begins, ends or fills up texts"):
        again(source, tmp_path / "model", image_token_id=number)


def test_half_a_character_cannot_stand_for_pictures(source, tmp_path):
    """A byte of a Chinese character alone is no text that could be typed or encoded."""
    with pytest.raises(UserError, match="cannot stand for pictures"):
        again(source, tmp_path / "model", image_token_id=190)


def test_a_full_clip_gives_its_vision_half_alone(source, tmp_path):
    from transformers import CLIPConfig, CLIPModel, CLIPVisionModel

    tower = CLIPVisionModel.from_pretrained(source / "clip")
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "vocab_size": 32, "max_position_embeddings": 8}  # fmt: skip
    full = CLIPModel(CLIPConfig(text_config=text, vision_config=tower.config.to_dict(), projection_dim=8))
    full.vision_model.load_state_dict(tower.state_dict())
    full.save_pretrained(tmp_path / "full")
    shutil.copy(source / "clip" / "preprocessor_config.json", tmp_path / "full")
    again(source, tmp_path / "one")
    again(source, tmp_path / "two", vision=tmp_path / "full")
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (
        tmp_path / "two" / "model.safetensors"
    ).read_bytes()


def broken_clip(source, tmp_path, change):
    directory = shutil.copytree(source / "clip", tmp_path / "clip")
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def test_a_tower_with_a_weight_missing_or_left_over_is_refused(source, tmp_path):
    def change(weights):
        name = next(name for name in weights if name.endswith("layers.1.mlp.fc1.bias"))
        weights["vision_model.encoder.layers.7.mlp.fc1.bias"] = weights.pop(name)

    with pytest.raises(
        UserError, match=r"missing keys: .*layers\.1\.mlp\.fc1\.bias.*unexpected keys: .*layers\.7"
    ):
        again(source, tmp_path / "model", vision=broken_clip(source, tmp_path, change))


def test_position_ids_of_older_transformers_may_stand_there(source, tmp_path):
    def change(weights):
        weights["vision_model.embeddings.position_ids"] = torch.arange(5)[None]

    again(source, tmp_path / "model", vision=broken_clip(source, tmp_path, change))


def test_a_siglip_is_not_taken_for_a_clip(source, tmp_path):
    directory = shutil.copytree(source / "clip", tmp_path / "clip")
    write_json(
        directory / "config.json", read_json(directory / "config.json") | {"model_type": "siglip_vision_model"}
    )
    with pytest.raises(UserError, match="a siglip_vision_model; the original's vision tower is a CLIP"):
        again(source, tmp_path / "model", vision=directory)


def test_an_old_preprocessor_file_is_read_as_clip_meant_it(source, imported, tmp_path):
    """openai's own: sizes as numbers, and neither rescaling nor RGB mentioned."""
    directory = shutil.copytree(source / "clip", tmp_path / "clip")
    (directory / "preprocessor_config.json").write_text(json.dumps({
        "crop_size": 16, "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 16,
    }))  # fmt: skip
    again(source, tmp_path / "model", vision=directory)
    assert (tmp_path / "model/processor_config.json").read_text() == (
        imported / "processor_config.json"
    ).read_text()


def test_pictures_of_another_size_than_the_tower_s_are_refused(source, tmp_path):
    directory = shutil.copytree(source / "clip", tmp_path / "clip")
    values = read_json(directory / "preprocessor_config.json") | {"crop_size": {"height": 32, "width": 32}}
    write_json(directory / "preprocessor_config.json", values)
    with pytest.raises(UserError, match="cuts pictures to 32 x 32, the vision tower takes 16 x 16"):
        again(source, tmp_path / "model", vision=directory)


def test_a_copy_of_the_tower_in_the_checkpoint_must_be_the_given_one(source, state, tmp_path):
    from transformers import CLIPVisionModel

    tower = CLIPVisionModel.from_pretrained(source / "clip").state_dict()
    copies = {f"vision_encoder.vision_model.{name}": tensor.half() for name, tensor in tower.items()}
    copies |= {"vision_encoder.logit_scale": torch.ones(()), "vision_encoder.text_model.final_layer_norm.bias":
               torch.ones(3)}  # fmt: skip
    path = tmp_path / "checkpoint.pth"
    torch.save(state | copies, path)
    again(source, tmp_path / "model", checkpoint=path)
    with pytest.raises(UserError, match="another one was trained with"):
        again(source, tmp_path / "other", checkpoint=path, vision=write_clip(tmp_path / "clip", seed=9))
    torch.save(state | {"vision_encoder.vision_model.extra": torch.ones(3)}, path)
    with pytest.raises(UserError, match=r"unknown: vision_encoder\.vision_model\.extra"):
        again(source, tmp_path / "other", checkpoint=path)


def test_a_projector_for_another_tower_is_refused(source, tmp_path):
    torch.save(random_state(Variant(), 32), tmp_path / "checkpoint.pth")
    with pytest.raises(UserError, match=r"takes features 32 wide, the vision tower .* gives 24"):
        again(source, tmp_path / "model", checkpoint=tmp_path / "checkpoint.pth")


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(source, tmp_path):
    torch.save(random_state(Variant(vocabulary=100), 24), tmp_path / "checkpoint.pth")
    config = tmp_path / "config.json"
    write_json(config, Variant(vocabulary=100).config)
    with pytest.raises(UserError, match="259 tokens; the checkpoint knows 100"):
        again(source, tmp_path / "model", checkpoint=tmp_path / "checkpoint.pth", config=config)


@pytest.mark.parametrize("part", ["checkpoint", "vision", "tokenizer", "config"])
def test_a_part_that_is_not_there_is_named(source, tmp_path, part):
    with pytest.raises(UserError, match="nowhere"):
        again(source, tmp_path / "model", **{part: tmp_path / "nowhere"})
    assert not (tmp_path / "model").exists()


def test_nothing_is_overwritten_unless_forced_and_then_models_alone(source, imported, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "mine" / "fingerprint.json").write_text("{}")
    (tmp_path / "base").mkdir()
    for name in ("fingerprint.json", "layout.json"):
        (tmp_path / "base" / name).write_text("{}")
    model = shutil.copytree(imported, tmp_path / "model")
    (model / "notes.txt").write_text("mine")
    before = sha256_tree(tmp_path)
    for out in (tmp_path / "mine", tmp_path / "base", model):
        with pytest.raises(UserError, match="is not empty; give a new directory"):
            again(source, out)
    for out in (tmp_path / "mine", tmp_path / "base"):
        with pytest.raises(UserError, match="is not empty and no model"):
            again(source, out, force=True)
    with pytest.raises(UserError, match="a file is there"):
        again(source, tmp_path / "mine" / "notes.txt", force=True)
    assert sha256_tree(tmp_path) == before
    again(source, model, force=True)
    assert sha256_tree(model) == sha256_tree(imported)


def test_an_empty_directory_is_written_to_also_behind_a_link(source, imported, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "other")
    for out in (tmp_path / "empty", tmp_path / "link"):
        again(source, out)
        assert sha256_tree(out.resolve()) == sha256_tree(imported)


@pytest.mark.parametrize("out", [".", "clip", "tokenizer", "clip/../clip"])
def test_the_sources_are_never_overwritten(source, tmp_path, out):
    copied = shutil.copytree(source, tmp_path / "source")
    before = sha256_tree(copied)
    with pytest.raises(UserError, match="would be removed"):
        again(copied, copied / out, force=True)
    assert sha256_tree(copied) == before


def test_a_configuration_within_the_directory_to_write_is_never_removed(source, imported, tmp_path):
    model = shutil.copytree(imported, tmp_path / "model")
    shutil.copy(source / "config.json", model / "mine.json")
    with pytest.raises(UserError, match="would be removed"):
        again(source, model, config=model / "mine.json", force=True)


def test_a_tokenizer_without_a_template_gets_the_original_s_form(imported):
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(imported)
    turns = [{"role": "user", "content": "好"}, {"role": "assistant", "content": None}]
    assert processor.apply_chat_template(turns, add_generation_prompt=True) == (
        "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n<|im_start|>user\n好<|im_end|>\n"
        "<|im_start|>assistant\n<|im_end|>\n<|im_start|>assistant\n"
    )
