"""The metric tree: which figures there are, and the baseline beside each."""

import pytest

from minivlm.data.scenes.world import Group, Truth
from minivlm.evaluation.heldout import Heldout, Picture
from minivlm.evaluation.image_gap import ImageGap
from minivlm.evaluation.scores import figures, flattened, rounded

GAP = ImageGap(loss=1.5, gap=0.75, shuffled=-0.01, rows=9)
SCENES = {
    "白天的海上有两只红船": Truth("day", "sea", (Group("boat", 2, "red"),)),
    "夜晚的草地上有一只白鸟": Truth("night", "grass", (Group("bird", 1, "white"),)),
    "夕阳下的雪地里有三棵绿树": Truth("sunset", "snow", (Group("tree", 3, "green"),)),
}


def heldout(with_truth: bool) -> Heldout:
    return Heldout(
        "heldout",
        [
            Picture(f"heldout:{i}", str(i), b"", (text, f"图片：{text}"), truth if with_truth else None)
            for i, (text, truth) in enumerate(SCENES.items())
        ],
        [],
    )


def test_rows_without_scenes_are_scored_by_agreement_with_people():
    tree = figures(heldout(False), list(SCENES), GAP, seed=0)
    quality = {"cider", "bleu", "chrf", "image_gap"}
    assert set(tree) == quality | {f"shuffled_{q}" for q in quality} | {
        "pictures", "gap_rows", "loss", "cider_tokenization"
    }  # fmt: skip
    assert tree["bleu"] == pytest.approx(100)
    assert tree["shuffled_bleu"] < 60
    assert tree["cider"] > tree["shuffled_cider"]
    assert (tree["image_gap"], tree["shuffled_image_gap"], tree["loss"]) == (0.75, -0.01, 1.5)
    assert tree["cider_tokenization"] == "character"


def test_scenes_are_scored_against_their_truth():
    tree = figures(heldout(True), list(SCENES), GAP, seed=0)
    quality = {"attribute_recall", "attribute_precision", "exact_scene", "hallucination_rate", "by_attribute"}
    quality |= {"bleu", "chrf", "image_gap"}
    assert set(tree) == quality | {f"shuffled_{q}" for q in quality} | {"pictures", "gap_rows", "loss"}
    assert (tree["attribute_recall"], tree["exact_scene"], tree["hallucination_rate"]) == (1, 1, 0)
    assert (tree["shuffled_attribute_recall"], tree["shuffled_hallucination_rate"]) == (0, 1)


def test_written_numbers_have_six_digits_and_no_negative_zero():
    tree = rounded({"a": {"b": 1 / 3, "c": -1e-9, "n": 3}, "name": "character"})
    assert tree == {"a": {"b": 0.333333, "c": 0.0, "n": 3}, "name": "character"}
    assert str(tree["a"]["c"]) == "0.0"


def test_flattened_keeps_numbers_by_dotted_path():
    tree = {"sft": {"heldout": {"bleu": 3, "by_attribute": {"sky": 0.5}, "cider_tokenization": "character"}}}
    assert flattened(tree) == {"sft.heldout.bleu": 3.0, "sft.heldout.by_attribute.sky": 0.5}
