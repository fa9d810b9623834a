"""Several turns: what the model is given, and what is left out when it has no room."""

import pytest

from minivlm.errors import UserError
from minivlm.generation import conversation as module
from minivlm.generation.conversation import Conversation
from tests.unit.evaluation.toys import picture

PATCHES = 16
POSITIONS = 256  # of the tiny model


@pytest.fixture
def prompts(monkeypatch):
    """Messages and picture tokens of every prompt that was built."""
    built = []
    original = module.build_prompt

    def build(processor, messages, tokens):
        built.append([(each["role"], each["content"]) for each in messages])
        return original(processor, messages, tokens)

    monkeypatch.setattr(module, "build_prompt", build)
    return built


def answered(conversation, question, most=4):
    with conversation.ask(question, max_new_tokens=most) as answer:
        list(answer)
    return answer.text


def texts(messages):
    """(role, pictures, text) of messages."""
    found = []
    for role, content in messages:
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        pictures = sum(part["type"] == "image" for part in parts)
        found.append((role, pictures, "".join(part.get("text", "") for part in parts)))
    return found


def test_a_turn_is_asked_after_all_that_was_said(llava, prompts):
    conversation = Conversation(*llava)
    conversation.show(picture(0))
    first = answered(conversation, "几只？")
    answered(conversation, "什么颜色？")
    assert texts(prompts[-1]) == [("user", 1, "几只？"), ("assistant", 0, first), ("user", 0, "什么颜色？")]


def test_a_picture_may_come_with_any_turn_and_is_seen_once(llava, prompts, monkeypatch):
    seen = []
    original = module.picture_features
    monkeypatch.setattr(
        module, "picture_features", lambda m, p, pictures: seen.append(len(pictures)) or original(m, p, pictures)
    )
    conversation = Conversation(*llava)
    answered(conversation, "你好")
    conversation.show(picture(1))
    conversation.show(picture(2))
    answered(conversation, "哪个更大？")
    answered(conversation, "为什么？")
    assert [pictures for _, pictures, _ in texts(prompts[-1])] == [0, 0, 2, 0, 0]
    assert sum(seen) == 2 and conversation.pictures == 2


def test_the_oldest_turns_are_left_out_and_their_pictures_are_not(llava, prompts):
    conversation = Conversation(*llava)
    conversation.show(picture(0))
    for i in range(9):
        conversation.add(f"第{i}个问题，请详细描述。", "好" * 20)
    answered(conversation, "最后一个", most=32)
    assert conversation.forgotten > 0
    kept = texts(prompts[-1])
    assert kept[0][:2] == ("user", 1) and kept[-1][2] == "最后一个"
    assert "第0个" not in kept[0][2] and len(kept) == 2 * (10 - conversation.forgotten) - 1


def test_a_question_without_room_is_refused_and_changes_nothing(llava, prompts):
    conversation = Conversation(*llava)
    conversation.show(picture(0))
    before = answered(conversation, "几只？")
    with pytest.raises(UserError, match=r"take \d+ tokens, and the model has 256 positions"):
        conversation.ask("长" * 300, max_new_tokens=4)
    answered(conversation, "什么颜色？")
    assert texts(prompts[-1])[:2] == [("user", 1, "几只？"), ("assistant", 0, before)]
    with pytest.raises(UserError, match="the model has 256 positions; take fewer"):
        conversation.ask("短", max_new_tokens=POSITIONS + 1)


def test_a_long_question_leaves_the_answer_what_room_there_is(llava):
    conversation = Conversation(*llava)
    with conversation.ask("请" * 200, max_new_tokens=200) as answer:
        list(answer)
    assert 0 < answer.meter.tokens < 56


def test_a_turn_that_was_stopped_before_it_began_is_as_if_it_had_not_been(llava, prompts):
    conversation = Conversation(*llava)
    conversation.show(picture(0))
    with conversation.ask("没有回答", max_new_tokens=4):
        pass
    answered(conversation, "几只？")
    assert texts(prompts[-1]) == [("user", 1, "几只？")] and conversation.forgotten == 0


def test_pictures_of_a_turn_that_said_nothing_come_before_the_next_question(llava, prompts):
    """Two turns later too: they were shown, and nothing says that they were taken back."""
    conversation = Conversation(*llava)
    conversation.show(picture(0))
    with conversation.ask("没有回答", max_new_tokens=4):
        pass
    conversation.add("这是什么？", "船")
    conversation.show(picture(1))
    answered(conversation, "几只？")
    assert [(role, pictures) for role, pictures, _ in texts(prompts[-1])] == [
        ("user", 1),
        ("assistant", 0),
        ("user", 1),
    ]


def test_reset_forgets_the_turns_and_keeps_the_pictures(llava, prompts):
    conversation = Conversation(*llava)
    conversation.show(picture(0))
    first = answered(conversation, "几只？")
    answered(conversation, "什么颜色？")
    conversation.reset()
    assert answered(conversation, "几只？") == first
    assert texts(prompts[-1]) == [("user", 1, "几只？")]
