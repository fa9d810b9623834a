"""The parser reads all that the grammar writes, and reads a model's imperfect sentences without guessing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivlm.data.scenes.grammar import long_description, question_answers, short_caption
from minivlm.data.scenes.layout import sample_scene, stream
from minivlm.data.scenes.lexicon import GROUND_WORDS, SKY_WORDS
from minivlm.data.scenes.parse import known_words, merge_groups, parse_caption
from minivlm.data.scenes.positions import TOP_DOWN, in_reading_order
from minivlm.data.scenes.world import KINDS, Group, Truth


def unordered(truth):
    return truth.sky, truth.ground, sorted(truth.groups, key=str)


@pytest.mark.parametrize("split", ["train", "compositional"])
def test_captions_and_descriptions_are_read_back_exactly(split):
    for index in range(1200):
        scene, rng = sample_scene(3, split, index), stream(3, split, index, "text")
        for text in (short_caption(scene, rng), long_description(scene, rng)):
            assert unordered(parse_caption(text)) == unordered(scene.truth), text


def test_what_is_in_the_picture_is_read_back_from_the_answer():
    for index in range(300):
        scene, rng = sample_scene(5, "train", index), stream(5, "train", index, "text")
        for question, answer in question_answers(scene, rng, 20):
            if question in ("图中有什么？", "画面里有哪些东西？", "你看到了什么？"):
                groups = tuple(scene.groups[i] for i in in_reading_order(scene))
                assert parse_caption(answer) == Truth(None, None, groups), answer


def test_texts_name_the_groups_from_the_sky_down_and_from_left_to_right():
    for index in range(300):
        scene, rng = sample_scene(7, "train", index), stream(7, "train", index, "text")
        named = [g.kind for g in parse_caption(long_description(scene, rng)).groups]
        assert named == [scene.groups[i].kind for i in in_reading_order(scene)]
        heights = [TOP_DOWN.index(KINDS[kind].zone) for kind in named]
        assert heights == sorted(heights)


def test_every_phrase_for_a_sky_and_a_ground_is_read_as_that_one():
    for key, sky in SKY_WORDS.items():
        for phrase in (*sky.when, *sky.of, *sky.mood, sky.answer):
            assert parse_caption(phrase) == Truth(key, None, ()), phrase
    for key, ground in GROUND_WORDS.items():
        for phrase in (*ground.names, *ground.mood):
            assert parse_caption(phrase) == Truth(None, key, ()), phrase


def test_a_partial_statement_stays_partial():
    assert parse_caption("几只鸟在空中飞翔") == Truth(None, None, (Group("bird", None, None),))
    assert parse_caption("有两座房子") == Truth(None, None, (Group("house", 2, None),))
    assert parse_caption("一朵朵白云") == Truth(None, None, (Group("cloud", None, "white"),))
    assert parse_caption("") == Truth(None, None, ())


def test_a_thing_named_again_in_agreement_is_one_group():
    assert parse_caption("三只红色的鸟，鸟飞得很高，这三只小鸟很美").groups == (Group("bird", 3, "red"),)
    assert parse_caption("草地上有两棵树，它们都是绿色的").groups == (Group("tree", 2, "green"),)


def test_contradictions_are_kept():
    expected = (Group("bird", 3, "red"), Group("bird", 2, "red"))
    assert parse_caption("三只红色的鸟和两只红色的鸟").groups == expected
    assert parse_caption("一辆红色的汽车，汽车是蓝色的").groups == (
        Group("car", 1, "red"),
        Group("car", None, "blue"),
    )
    assert parse_caption("傍晚的夜空").sky is None
    assert parse_caption("草地和雪地").ground is None


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("雪山", Truth(None, None, (Group("mountain", None, None),))),
        ("一把雨伞", Truth(None, None, (Group("umbrella", 1, None),))),
        ("海边", Truth(None, "beach", ())),
        ("海鸟飞过水面", Truth(None, None, (Group("bird", None, None),))),
        ("白天", Truth("day", None, ())),
        ("黄昏", Truth("sunset", None, ())),
        ("雪白的房子", Truth(None, None, (Group("house", None, "white"),))),
        ("天空中有阴云", Truth("overcast", None, ())),
        ("开花的草地", Truth(None, "grass", ())),
    ],
)
def test_the_longest_word_wins(text, truth):
    assert parse_caption(text) == truth


def test_colours_and_counts_of_the_surroundings_are_not_those_of_things():
    assert parse_caption("一片金色的麦田里有鸟") == Truth(None, "wheat", (Group("bird", None, None),))
    assert parse_caption("绿色的草地上有房子") == Truth(None, "grass", (Group("house", None, None),))
    assert parse_caption("红色的夕阳下鸟在飞") == Truth("sunset", None, (Group("bird", None, None),))


def test_attributes_reach_their_noun_over_a_clause():
    expected = (Group("bird", 3, "red"),)
    assert parse_caption("三只飞过海面的红鸟").groups == expected
    assert parse_caption("三只在天空中飞翔的红色的鸟").groups == expected


def test_what_is_denied_is_not_claimed():
    assert parse_caption("图中没有鸟，没有红色的房子") == Truth(None, None, ())


def test_values_outside_the_world_are_claims_too():
    assert parse_caption("五只黑色的鸟").groups == (Group("bird", 5, "black"),)


def test_merging_fills_gaps_in_order_of_first_mention():
    said = [Group("bird", None, "red"), Group("car", 1, None), Group("bird", 2, None)]
    assert merge_groups(said) == (Group("bird", 2, "red"), Group("car", 1, None))


def test_known_words_are_found_where_they_stand_and_neutral_ones_are_not():
    text = "天空中飘着白色的热气球，海面"
    found = [(text[start:end], what, key) for start, end, what, key in known_words(text)]
    assert found == [("白", "colour", "white"), ("热气球", "kind", "balloon"), ("海面", "ground", "sea")]


@given(st.text(alphabet="一两三只座朵红白色的鸟云山花雪雨海夜草地天空，。是有没和12 \n", max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_without_failing_and_repeating_it_adds_nothing(text):
    truth = parse_caption(text)
    assert parse_caption(f"{text}。{text}").groups == merge_groups(list(truth.groups) * 2)
