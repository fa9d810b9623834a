"""What counts as right, as missed and as made up in a caption of a known scene."""

import numpy as np
import pytest

from minivlm.data.scenes.grammar import long_description, short_caption
from minivlm.data.scenes.layout import sample_scene
from minivlm.data.scenes.parse import parse_caption
from minivlm.data.scenes.world import Group, Truth
from minivlm.evaluation.attributes import judge, score

SCENE = Truth("sunset", "sea", (Group("boat", 2, "red"), Group("bird", 3, "white")))  # 2 + 2 x 3 attributes


def rates(stated: Truth, truth: Truth = SCENE) -> dict:
    return score([(truth, stated)])


def test_a_perfect_caption_earns_everything_in_any_order_of_groups():
    result = rates(Truth("sunset", "sea", (SCENE.groups[1], SCENE.groups[0])))
    assert result == {
        "attribute_recall": 1.0,
        "attribute_precision": 1.0,
        "exact_scene": 1.0,
        "hallucination_rate": 0.0,
        "by_attribute": dict.fromkeys(("sky", "ground", "kind", "number", "colour"), 1.0),
    }


def test_recall_counts_every_attribute_and_silence_costs_no_precision():
    result = rates(Truth("sunset", None, (Group("boat", None, "red"),)))
    assert result["attribute_recall"] == pytest.approx(3 / 8)
    assert result["attribute_precision"] == 1.0
    assert result["exact_scene"] == 0.0
    assert result["by_attribute"] == {"sky": 1, "ground": 0, "kind": 0.5, "number": 0, "colour": 0.5}


def test_number_and_colour_are_credited_with_their_kind_only():
    # A car that has the boat's number and colour, and the birds' number on the boats: neither is right.
    result = rates(Truth(None, None, (Group("car", 2, "red"), Group("boat", 3, "white"))))
    assert result["attribute_recall"] == pytest.approx(1 / 8)
    assert result["attribute_precision"] == pytest.approx(1 / 6)


def test_number_and_colour_without_a_kind_are_wrong():
    result = rates(Truth(None, None, (Group(None, 2, "red"),)))
    assert (result["attribute_recall"], result["attribute_precision"]) == (0.0, 0.0)
    assert result["hallucination_rate"] == 0.0, "no kind was named"


def test_wrong_values_cost_recall_and_precision():
    result = rates(Truth("day", "sea", (Group("boat", 2, "red"), Group("bird", 4, "white"))))
    assert result["attribute_recall"] == result["attribute_precision"] == pytest.approx(6 / 8)


def test_an_addition_to_a_right_caption_is_not_exact():
    result = rates(Truth("sunset", "sea", (*SCENE.groups, Group("house", None, None))))
    assert result["attribute_recall"] == 1.0
    assert result["attribute_precision"] == pytest.approx(8 / 9)
    assert result["exact_scene"] == 0.0
    assert result["hallucination_rate"] == pytest.approx(1 / 3)


def test_naming_a_shown_kind_twice_is_imprecise_but_no_hallucination():
    result = rates(Truth("sunset", "sea", (Group("boat", 1, "blue"), *SCENE.groups)))
    assert result["attribute_recall"] == 1.0, "the group that agrees best answers for the scene's group"
    assert result["attribute_precision"] == pytest.approx(8 / 11)
    assert result["hallucination_rate"] == 0.0


def test_rates_are_taken_over_sums_of_all_pictures():
    empty = Truth(None, None, ())
    small = Truth("day", "grass", ())
    result = score([(SCENE, SCENE), (small, empty)])
    assert result["attribute_recall"] == pytest.approx(8 / 10), "not the mean of 1 and 0"
    assert result["exact_scene"] == 0.5


def test_a_silent_caption_has_no_precision_and_no_hallucination():
    result = rates(Truth(None, None, ()))
    assert [result[k] for k in ("attribute_recall", "attribute_precision", "hallucination_rate")] == [0, 0, 0]


def test_judgements_name_thing_truth_and_statement():
    wrong = [j for j in judge(SCENE, Truth("sunset", "sea", (Group("boat", 2, "blue"), SCENE.groups[1])))]
    (only,) = [j for j in wrong if not j.right]
    assert (only.attribute, only.kind, only.true, only.stated) == ("colour", "boat", "red", "blue")


def test_the_grammars_own_captions_earn_everything_and_another_pictures_little():
    scenes = [sample_scene(3, "heldout", i) for i in range(30)]
    rng = np.random.default_rng(0)
    for say in (short_caption, long_description):
        stated = [parse_caption(say(scene, rng)) for scene in scenes]
        own = score([(scene.truth, said) for scene, said in zip(scenes, stated, strict=True)])
        assert (own["attribute_recall"], own["attribute_precision"], own["exact_scene"]) == (1, 1, 1)
        other = score([(scenes[i].truth, stated[i - 1]) for i in range(len(scenes))])
        assert other["attribute_recall"] < 0.4 and other["exact_scene"] == 0
