"""What is said of one conversation."""

import json
import re

import pytest

from minivlm.data.validation.conversation import ConversationError, Turn, conversation_facts, parse_turns
from tests.unit.data.validation.rows import caption, talk


def test_turns_of_the_original_form_are_read():
    assert parse_turns(caption("好").encode()) == [
        Turn("user", "<image>\n请描述这张图片。"),
        Turn("assistant", "好"),
    ]


@pytest.mark.parametrize(
    ("raw", "form"),
    [
        (None, "missing"),
        (b"", "not JSON (Expecting value, character 1)"),
        (b"{oops", "not JSON (Expecting property name enclosed in double quotes, character 2)"),
        (b"[" * 100_000, "not JSON (brackets nested too deep)"),
        (b"[NaN]", "not JSON (NaN is no number of JSON)"),
        (b"[" + b"9" * 5000 + b"]", "a number of 5,000 digits"),
        (b"[1e999]", "a number out of range: '1e999'"),
        (b'[{"role": "user", "role": "assistant"}]', "the key 'role' stands twice in one object"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[]", "a list without turns"),
        (b'{"role": "user", "content": "x"}', "not a list of turns"),
        (b'["user"]', 'turn 1 is not {"role", "content"}'),
        (b'[{"role": "user"}]', "turn 1 has no content"),
        (b'[{"content": "x"}]', "turn 1 has no role"),
        (b'[{"role": "user", "content": ["x"]}]', "the content of turn 1 is not text"),
        (b'[{"role": "user", "content": "\\ud83d"}]', "turn 1 has half a character (lone surrogate)"),
    ],
)
def test_what_is_no_conversation_is_named(raw, form):
    with pytest.raises(ConversationError, match=f"^{re.escape(form)}$"):
        parse_turns(raw)
    facts = conversation_facts(raw)
    assert facts.form == form
    assert facts.roles is None and facts.marks is None


def test_a_surrogate_pair_written_as_two_escapes_is_one_character():
    turns = parse_turns(b'[{"role": "user", "content": "\\ud83d\\ude00"}]')
    assert turns == [Turn("user", "\U0001f600")]


def test_facts_of_two_rounds_are_counted():
    text = talk(("user", "<image>\nab"), ("assistant", " c "), ("user", "defg"), ("assistant", "hij"))
    facts = conversation_facts(text.encode())
    assert facts.roles == "user assistant user assistant"
    assert (facts.turns, facts.marks, facts.marks_elsewhere) == (4, 1, 0)
    assert (facts.shortest_answer, facts.longest_turn) == (1, 4)
    assert (facts.question_characters, facts.answer_characters) == (6, 4)


def test_marks_of_all_user_turns_are_counted_and_those_of_others_apart():
    turns = [("system", "<image>"), ("user", "<image><image>"), ("assistant", "a <image>"), ("user", "b<image>")]
    facts = conversation_facts(talk(*turns).encode())
    assert (facts.marks, facts.marks_elsewhere) == (3, 2)


def test_a_role_nobody_knows_cannot_pass_for_two_known_ones():
    facts = conversation_facts(talk(("user assistant", "<image>"), ("assistant", "x")).encode())
    assert facts.roles == "other assistant"


def test_json_spacing_does_not_hide_the_same_conversation():
    value = json.loads(caption())
    tight = json.dumps(value, separators=(",", ":")).encode()
    assert conversation_facts(tight).digest == conversation_facts(caption().encode()).digest
    assert conversation_facts(caption("其他").encode()).digest != conversation_facts(tight).digest
