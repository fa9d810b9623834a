"""The template in its two forms, and the spans that the loss mask opens."""

import pytest

from minivlm.data import chat
from minivlm.data.chat import CHAT_TEMPLATE, SPECIAL_TOKENS, ChatTemplate

OWN = ChatTemplate(CHAT_TEMPLATE, name="own", special=SPECIAL_TOKENS)


def talk(*contents):
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


def text_of(messages, add_generation_prompt=False, template=OWN):
    return "".join(segment.text for segment in template.segments(messages, add_generation_prompt))


def image_and_text(text):
    return [{"type": "image"}, {"type": "text", "text": text}]


CONVERSATIONS = {
    "caption": talk("<image>\n请描述。", "一只鹰。"),
    "turns": talk("<image>\n几只?", "两只。", "什么颜色?", "\n\n白色  "),
    "system": [{"role": "system", "content": "你是助手。"}, *talk("你好", "")],
    "parts": talk(image_and_text("请描述。"), "一只鹰。"),
    "two pictures": talk([{"type": "image"}, *image_and_text("比较。")], "都有鸟。"),
    "text first": talk([{"type": "text", "text": "描述"}, {"type": "image"}], "鸟"),
    "quotes": talk("<image>它说'是' {{ x }} \\n", '"\\'),
    "nothing": [],
}


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_the_segments_are_the_template_as_transformers_runs_it(messages, prompt):
    from transformers.utils.chat_template_utils import render_jinja_template

    (expected,), _ = render_jinja_template([messages], chat_template=CHAT_TEMPLATE, add_generation_prompt=prompt)
    assert text_of(messages, prompt) == OWN.render(messages, prompt) == expected
    assert expected.endswith("<|im_start|>assistant\n") is prompt


def test_a_message_of_parts_reads_as_the_training_rows_do():
    assert text_of(talk(image_and_text("请描述。"))) == text_of(talk("<image>\n请描述。"))
    assert text_of(talk("<image>\n请描述。", "鸟")) == (
        "<|im_start|>user\n<image>\n请描述。<|im_end|>\n<|im_start|>assistant\n鸟<|im_end|>\n"
    )


def test_a_part_of_another_kind_is_refused_by_both():
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    messages = talk([{"type": "video"}])
    with pytest.raises(ValueError, match="video"):
        OWN.segments(messages)
    with pytest.raises(TemplateError, match="image or text"):
        render_jinja_template([messages], chat_template=CHAT_TEMPLATE)


def test_only_the_templates_own_tokens_are_special_segments():
    parts = OWN.segments(talk("<image><|im_end|>", [{"type": "text", "text": "<image>"}]))
    assert [part.text for part in parts if part.special] == [
        *("<|im_start|>", "<image>", "<|im_end|>"),
        *("<|im_start|>", "<|im_end|>"),
    ]
    assert "<|im_end|>" in [part.text for part in parts if not part.special]
    assert {part.text for part in parts if part.special} < set(SPECIAL_TOKENS)


def test_however_many_sequences_of_roles_are_asked_for_few_are_kept(monkeypatch):
    monkeypatch.setattr(chat, "_KEPT_FRAMES", 3)
    template = ChatTemplate(CHAT_TEMPLATE, name="own", special=SPECIAL_TOKENS)
    for turns in range(1, 9):
        messages = talk(*map(str, range(turns)))
        assert text_of(messages, template=template) == text_of(messages)
    assert len(template._frames) <= 3
