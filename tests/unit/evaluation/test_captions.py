"""Captions from a saved LLaVA directory."""

import re
import shutil

import pytest

from minivlm.errors import UserError
from minivlm.generation.captions import caption_pictures
from minivlm.generation.loading import load_model
from minivlm.generation.prompts import one_question
from tests.unit.evaluation.toys import picture

QUESTION = "请详细描述这张图片。"


def captions(llava, pictures, batch_size, max_new_tokens=12):
    return caption_pictures(*llava, pictures, QUESTION, batch_size=batch_size, max_new_tokens=max_new_tokens)


def test_captions_do_not_depend_on_the_batch_and_keep_the_order(llava):
    pictures = [picture(i) for i in range(5)]
    one_by_one = [captions(llava, [picture], 1)[0] for picture in pictures]
    assert captions(llava, pictures, 2) == captions(llava, pictures, 5) == one_by_one
    assert len(set(one_by_one)) > 1, "the picture must matter, or this test could not fail"


def test_captions_equal_greedy_steps_without_a_cache(llava):
    import torch

    model, processor = llava
    prompt = processor.apply_chat_template(one_question(QUESTION), add_generation_prompt=True, tokenize=False)
    inputs = processor(images=[picture(3)], text=[prompt], return_tensors="pt")
    ids = inputs["input_ids"]
    start = ids.shape[1]
    with torch.inference_mode():
        for _ in range(12):
            logits = model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits[:, -1]
            ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
            if ids[0, -1] == 2:
                break
    expected = processor.decode(ids[0, start:], skip_special_tokens=True).strip()
    assert captions(llava, [picture(3)], 1) == [expected]


def test_the_vision_tower_sees_every_picture_once(llava):
    model, _ = llava
    seen = []
    hook = model.model.vision_tower.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(len(args[0] if args else kwargs["pixel_values"])), with_kwargs=True
    )
    try:
        captions(llava, [picture(i) for i in range(5)], 2)
    finally:
        hook.remove()
    assert sum(seen) == 5


def test_pictures_of_other_sizes_and_modes_are_captioned(llava):
    assert len(captions(llava, [picture(0, 50), picture(1, 20)], 2)) == 2


def test_a_weight_that_is_missing_is_an_error_and_not_random(llava_directory, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(llava_directory, tmp_path / "model")
    weights = load_file(broken / "model.safetensors")
    del weights[next(name for name in weights if "linear_1" in name)]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="linear_1"):
        load_model(broken)


def test_weights_cut_short_are_a_clear_error(llava_directory, tmp_path):
    shutil.copytree(llava_directory, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=f"^{re.escape(str(tmp_path / 'model'))}: ") as error:
        load_model(tmp_path / "model")
    assert "\n" not in str(error.value)


def test_in_bf16_it_is_the_model_that_transformers_loads_in_bf16(llava_directory):
    import torch
    from transformers import AutoModelForImageTextToText

    model, _ = load_model(llava_directory, "cpu", "bf16")
    expected = AutoModelForImageTextToText.from_pretrained(llava_directory, dtype=torch.bfloat16)
    for own, other in ((model.state_dict(), expected.state_dict()), (buffers(model), buffers(expected))):
        assert own.keys() == other.keys()
        assert all(own[name].dtype == other[name].dtype and own[name].equal(other[name]) for name in own)
    assert model.dtype == expected.dtype


def buffers(model):
    return dict(model.named_buffers())


def test_a_missing_model_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="no model there"):
        load_model(tmp_path)


def test_a_processor_of_another_model_is_refused_when_it_is_loaded(llava_directory, tmp_path):
    """A directory by somebody else has no fingerprint: a blank picture and a question tell."""
    from minivlm.files import read_json, write_json

    def refused(name, change, said):
        directory = shutil.copytree(llava_directory, tmp_path / f"{said[:5]}")
        values = read_json(directory / name)
        change(values)
        write_json(directory / name, values)
        with pytest.raises(UserError, match=said) as caught:
            load_model(directory)
        assert "is damaged or not that of its model" in str(caught.value) and "\n" not in str(caught.value)

    def larger(values):
        values["image_processor"] |= {"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}}

    def stretched(values):
        values["image_processor"] |= {"do_center_crop": False}

    def enormous(values):
        values["image_processor"] |= {"size": {"shortest_edge": 100_000}}

    def more_tokens(values):
        last = max(values["model"]["vocab"].values())
        values["model"]["vocab"]["another"] = last + 1

    refused("processor_config.json", larger, r"size \(48\*48\)")
    refused("processor_config.json", stretched, "pixel_values|Input image size")
    refused("processor_config.json", enormous, "pictures are made 100000 pixels wide")
    refused("tokenizer.json", more_tokens, "tokens, and the model knows")


def test_files_of_a_model_that_were_exchanged_are_named_before_anything_is_loaded(llava_directory, tmp_path):
    from minivlm.model.fingerprint import write_fingerprint

    directory = shutil.copytree(llava_directory, tmp_path / "model")
    model, _ = load_model(directory)
    write_fingerprint(model, directory, seed=1)
    load_model(directory)
    path = directory / "tokenizer.json"
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(UserError, match=r"tokenizer\.json: not the file that the model was saved with"):
        load_model(directory)
