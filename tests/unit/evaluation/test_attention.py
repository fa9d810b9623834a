"""attention.json: the words of captions, the layer that is shown, whether words look at the things they name."""

import dataclasses
import json

import pytest
import torch

from minivlm.data.scenes.world import Group, Item, Scene, Truth
from minivlm.evaluation import attention
from minivlm.evaluation.attention import attention_report, covered_patches, dump, pointing
from minivlm.evaluation.heldout import Picture
from minivlm.evaluation.page import attention as page_attention
from minivlm.evaluation.questions import ShownPicture
from minivlm.generation.attention import AnswerAttention
from tests.unit.evaluation.toys import picture, picture_bytes

QUESTION = "请详细描述这张图片。"
TRUTH = Truth("day", "sea", ())
BOAT = Item(group=0, x=0.875, y=0.875, size=0.2, flip=False, variant=0.0)  # in the last of 4 x 4 patches


def scene(*items):
    groups = (Group("boat", len(items), "white"), Group("bird", 1, "red"))
    bird = Item(group=1, x=0.1, y=0.1, size=0.1, flip=False, variant=0.0)
    return Scene("day", "sea", groups, (*items, bird), 0.5, 0.0, 0.0, 0.5, 0.5, 0.5, 1.0, 1)


@pytest.fixture
def shown(tmp_path):
    pictures = []
    for i in range(8):
        picture(i, 48).save(tmp_path / f"{i}.png")
        pictures.append(ShownPicture(f"{i}.png", tmp_path / f"{i}.png", "x", {"sft": QUESTION}, TRUTH))
    return pictures


def test_a_few_pictures_are_kept_with_the_known_words_of_their_captions(llava, shown):
    report = attention_report("sft", *llava, shown, ["夕阳下漂着两艘白色的帆船。"] * 8, [], QUESTION)
    assert len(report["pictures"]) == attention.SHOWN and report["pointing"] is None
    entry = report["pictures"][0]
    words = [entry["caption"][word["start"] : word["end"]] for word in entry["words"]]
    assert words == ["夕阳", "白", "帆船"]
    assert all(len(word["weights"]) == 16 and 0 < sum(word["weights"]) < 1 for word in entry["words"])
    assert report["grid"] == [4, 4] and entry["region"] == [0, 0, 1, 1]


def test_the_layer_that_looks_at_pictures_most_is_shown(llava, shown):
    report = attention_report("sft", *llava, shown[:1], ["白色的帆船"], [], QUESTION)
    assert len(report["picture_share"]) == report["layers"] == 2
    assert report["picture_share"][report["layer"] - 1] == max(report["picture_share"])
    whole = [sum(word["weights"]) for word in report["pictures"][0]["words"]]
    assert sum(whole) / len(whole) == pytest.approx(max(report["picture_share"]), abs=1e-3)


@pytest.mark.parametrize(("caption", "truth"), [("你好，ok！", TRUTH), ("船你好，ok！", None)])
def test_other_captions_show_their_tokens_without_punctuation(llava, shown, caption, truth):
    picture = dataclasses.replace(shown[0], truth=truth)
    report = attention_report("sft", *llava, [picture], [caption], [], QUESTION)
    entry = report["pictures"][0]
    said = "".join(entry["caption"][word["start"] : word["end"]] for word in entry["words"])
    assert set(said) == set(caption) - set("，！")


def test_the_page_has_a_button_for_every_word():
    assert page_attention.WORDS == attention.WORDS


def test_without_captions_it_says_why_there_is_nothing(llava, shown):
    report = attention_report("sft", *llava, shown, [""] * 8, [], QUESTION)
    assert report == {"stage": "sft", "pictures": [], "why": "no caption has a word"}


def test_the_same_inputs_give_the_same_bytes_one_line_for_each_word(llava, shown):
    made = [attention_report("sft", *llava, shown[:2], ["白色的帆船"] * 2, [], QUESTION) for _ in range(2)]
    text, again = map(dump, made)
    assert text == again and json.loads(text) == made[0]
    assert sum('"weights": [' in line and line.endswith("]") for line in text.splitlines()) == 4


def test_patches_under_a_thing_are_those_that_its_box_covers():
    covered = covered_patches(scene(BOAT), "boat", 4)
    assert [i for i, each in enumerate(covered) if each] == [15]
    assert covered_patches(scene(), "boat", 4) == [False] * 16
    both = covered_patches(scene(BOAT, Item(0, 0.25, 0.875, 0.3, False, 0.0)), "boat", 4)
    assert [i for i, each in enumerate(both) if each] == [12, 13, 15], "on the border of two patches: both"


def test_pointing_counts_words_of_things_that_are_there(monkeypatch):
    """Layer 1 looks at the boat's patch, layer 2 never: what a report of a known attention must say."""
    weights = torch.full((2, 8, 16), 0.01)
    weights[0, :, 15] = 0.5
    weights[1, :, 3] = 0.5
    known = AnswerAttention(weights, [(i, i + 1) for i in range(8)])
    monkeypatch.setattr(attention, "answer_attention", lambda *_: known)
    one = Picture("heldout:0", "0", picture_bytes(0), (), None, scene(BOAT))
    unknown = Picture("heldout:1", "1", picture_bytes(1), (), None, None)
    found = pointing(None, None, [(one, "两艘白色帆船和车"), (one, "晴天"), (unknown, "帆船")], QUESTION, 4)
    assert found == {"pictures": 1, "words": 1, "hits": [1.0, 0.0], "chance": round(1 / 16, 4)}


def test_a_model_without_attention_weights_is_no_error(llava, shown, monkeypatch):
    monkeypatch.setattr(attention, "answer_attention", lambda *_: None)
    report = attention_report("sft", *llava, shown, ["帆船"] * 8, [], QUESTION)
    assert report["pictures"] == [] and "without attention weights" in report["why"]
