"""Everything that is said of a scene is true, complete where it must be, and of the promised length."""

import re
from collections import Counter

import pytest

from minivlm.data.scenes import grammar
from minivlm.data.scenes.layout import sample_scene, stream
from minivlm.data.scenes.lexicon import COLOUR_WORDS, GROUND_WORDS, KIND_WORDS, NUMBER_WORDS, SKY_WORDS
from minivlm.data.scenes.positions import in_reading_order
from minivlm.data.scenes.world import KINDS

NOUNS = {noun: kind for kind, words in KIND_WORDS.items() for noun in words.nouns}
COLOURS = {word: key for key, word in COLOUR_WORDS.items()}
NUMBERS = {word: key for key, word in NUMBER_WORDS.items()}
NOUN = "|".join(sorted(NOUNS, key=len, reverse=True))
COLOUR, NUMBER = "|".join(COLOURS), "|".join(NUMBERS)


@pytest.fixture(scope="module")
def scenes():
    return [sample_scene(11, "train", index) for index in range(800)]


def text_stream(index):
    return stream(11, "train", index, "text")


def group_of(scene, noun):
    """Index of the group with this name, or None."""
    return next((i for i, g in enumerate(scene.groups) if g.kind == NOUNS[noun]), None)


def stands(scene, index, words):
    """Whether a statement of place is true, judged from the boxes alone with a generous edge."""
    kind = str(scene.groups[index].kind)
    items = scene.items_of(index)
    xs, bottoms = [i.x for i in items], [i.box(kind)[3] for i in items]
    if "左边" in words and not max(xs) < 0.4:
        return False
    if "右边" in words and not min(xs) > 0.6:
        return False
    if "中间" in words and not (min(xs) > 0.3 and max(xs) < 0.7):
        return False
    if "从左到右" in words and not (min(xs) < 0.4 and max(xs) > 0.6):
        return False
    if "近处" in words and not min(bottoms) > 0.8:
        return False
    zone = KINDS[kind].zone
    if "远处" in words and not (zone == "horizon" or max(bottoms) < 0.75):
        return False
    if "天空" in words:
        return zone == "sky"
    if "水面" in words:
        return zone == "water" and scene.ground == "beach"
    return zone in ("horizon", "ground", "water") or "上空" in words


def test_short_captions_are_one_short_sentence(scenes):
    lengths = [len(grammar.short_caption(scene, text_stream(i))) for i, scene in enumerate(scenes)]
    assert min(lengths) >= 10 and max(lengths) <= 36
    assert sum(12 <= length <= 32 for length in lengths) > 0.97 * len(lengths)


def test_long_descriptions_have_38_to_90_characters(scenes):
    for index, scene in enumerate(scenes):
        text = grammar.long_description(scene, text_stream(index))
        assert 38 <= len(text) <= 90, text
        assert text.endswith("。")


def test_positions_in_descriptions_are_true(scenes):
    said = Counter()
    for index, scene in enumerate(scenes):
        # The first sentence is about the place as a whole.
        body = grammar.long_description(scene, text_stream(index)).split("。", 1)[1]
        body = body.split("除了")[0]
        for clause in re.split("[，。]", body):
            if not clause:
                continue
            found = re.search(rf"(?:{NUMBER})\w[{COLOUR}]色?的?({NOUN})", clause)
            assert found, clause
            group = group_of(scene, found.group(1))
            assert (group is not None and stands(scene, group, clause)) or clause.startswith("还"), clause
            said.update(word for word in ("左边", "右边", "中间", "从左到右", "近处", "远处") if word in clause)
    assert len(said) == 6 and min(said.values()) > 10, said


def test_things_are_called_near_the_same_ground_and_sky(scenes):
    for index, scene in enumerate(scenes[:200]):
        rng = text_stream(index)
        for text in (grammar.short_caption(scene, rng), grammar.long_description(scene, rng)):
            others = [n for key, w in GROUND_WORDS.items() if key != scene.ground for n in w.names]
            others += [n for key, w in SKY_WORDS.items() if key != scene.sky for n in w.when]
            assert not [word for word in others if word in text], text


def test_the_same_scene_and_stream_give_the_same_text(scenes):
    for index, scene in enumerate(scenes[:50]):
        for say in (grammar.short_caption, grammar.long_description):
            assert say(scene, text_stream(index)) == say(scene, text_stream(index))
        first, again = (grammar.question_answers(scene, text_stream(index), 5) for _ in range(2))
        assert first == again


def test_a_scene_is_described_in_many_ways(scenes):
    texts = {grammar.short_caption(scenes[0], text_stream(i)) for i in range(60)}
    assert len(texts) > 20


def test_prompts_start_with_the_picture_and_the_first_is_canonical():
    assert grammar.CANONICAL_SHORT == "<image>\n请用一句话描述这张图片。" == grammar.SHORT_PROMPTS[0]
    assert grammar.CANONICAL_LONG == "<image>\n请详细描述这张图片。" == grammar.LONG_PROMPTS[0]
    for prompts in (grammar.SHORT_PROMPTS, grammar.LONG_PROMPTS):
        assert 4 <= len(set(prompts)) == len(prompts) <= 6
        assert all(prompt.startswith("<image>\n") for prompt in prompts)


def is_true(scene, question, answer):
    """Judge an answer by its own reading of question and answer; fails on a form that it does not know."""
    groups = scene.groups
    if re.search("有什么|哪些东西|看到了什么", question):
        stated = re.findall(rf"({NUMBER})\w([{COLOUR}])色?的?(?:小|大)?({NOUN}|\w+?)(?=、|和|。)", answer)
        return [(NUMBERS[n], COLOURS[c]) for n, c, _ in stated] == [
            (groups[i].number, groups[i].colour) for i in in_reading_order(scene)
        ]
    if found := re.search(rf"几\w({NOUN})", question):
        group = groups[group_of(scene, found.group(1))]
        count = NUMBER_WORDS[group.number] + KIND_WORDS[group.kind].measure
        return answer in (f"{count}。", f"有{count}{found.group(1)}。")
    if found := re.fullmatch(rf"({NOUN})是({COLOUR})色的吗？", question):
        group = groups[group_of(scene, found.group(1))]
        yes = COLOURS[found.group(2)] == group.colour
        return answer == f"{'是的' if yes else '不是'}，{found.group(1)}是{COLOUR_WORDS[group.colour]}色的。"
    if found := re.fullmatch(rf"(?:图中的)?({NOUN})是什么颜色的?？", question):
        return answer == f"{found.group(1)}是{COLOUR_WORDS[groups[group_of(scene, found.group(1))].colour]}色的。"
    if found := re.fullmatch(rf"({NOUN})在(?:哪里|画面的什么位置)？", question):
        return stands(scene, group_of(scene, found.group(1)), answer)
    if found := re.fullmatch(rf"图中有({NOUN})吗？", question):
        index = group_of(scene, found.group(1))
        if index is None:
            return answer == f"没有，图中没有{found.group(1)}。"
        number, colour = NUMBER_WORDS[groups[index].number], COLOUR_WORDS[groups[index].colour]
        return answer.startswith(f"有，图中有{number}{KIND_WORDS[groups[index].kind].measure}{colour}")
    asked = [key for key, words in SKY_WORDS.items() if words.asked == question]
    if asked:
        return answer == f"{'是的' if asked[0] == scene.sky else '不是'}，是{SKY_WORDS[scene.sky].answer}。"
    if question in ("天空是什么样的？", "这是什么时候，什么天气？"):
        return any(answer == f"{mood}，是{SKY_WORDS[scene.sky].answer}。" for mood in SKY_WORDS[scene.sky].mood)
    assert question in ("这是什么地方？", "画面下方是什么？", "图中是什么地方？"), question
    return answer[1:-1] in GROUND_WORDS[scene.ground].names


def test_every_answer_is_true(scenes):
    for index, scene in enumerate(scenes):
        pairs = grammar.question_answers(scene, text_stream(index), 20)
        assert len({question for question, _ in pairs}) == len(pairs) >= 8
        for question, answer in pairs:
            assert is_true(scene, question, answer), (question, answer, scene.truth)


def test_as_many_questions_are_asked_as_wanted(scenes):
    for turns in range(1, 6):
        assert len(grammar.question_answers(scenes[turns], text_stream(turns), turns)) == turns


def test_yes_and_no_are_balanced_for_each_sort_of_question(scenes):
    outcomes: dict[str, Counter] = {"colour": Counter(), "there": Counter(), "sky": Counter()}
    for index, scene in enumerate(scenes):
        for question, answer in grammar.question_answers(scene, text_stream(index), 20):
            if not question.endswith("吗？"):
                continue
            sort = "there" if question.startswith("图中有") else "sky" if question.startswith("现在") else "colour"
            outcomes[sort][answer.startswith(("是的", "有"))] += 1
    for sort, count in outcomes.items():
        assert 0.42 < count[True] / count.total() < 0.58, (sort, count)
