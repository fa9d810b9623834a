"""Chat templates by somebody else: adapted to pictures, cut as they are written, supervised where answers are."""

import json
from datetime import datetime

import numpy as np
import pytest

from minivlm.data.chat import CHAT_TEMPLATE, ChatTemplate
from minivlm.data.encoding import ChatEncoder
from minivlm.data.foreign_template import adapt
from minivlm.data.special_tokens import SpecialTokens
from minivlm.errors import UserError
from tests import families
from tests.families import CHATML, DEFAULT_SYSTEM, HEADERS, INST, THINKING

VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}
SPECIAL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
TEMPLATES = {"chatml": CHATML, "system": DEFAULT_SYSTEM, "thinking": THINKING, "headers": HEADERS, "inst": INST}


def talk(*contents, system=None):
    turns = [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]
    return [{"role": "system", "content": system}, *turns] if system else turns


def chat(template, special=SPECIAL):
    return ChatTemplate(adapt(template, "toy", VARIABLES), name="toy", special=special, variables=VARIABLES)


def supervised(template, messages):
    return "|".join(each.text for each in template.segments(messages) if each.supervised)


TALKS = {
    "one": talk("<image>\n几只?", "两只。"),
    "turns": talk("<image>\n几只?", "两只。", "颜色?", "白色"),
    "system": talk("<image>\n几只?", "两只。", system="看图。"),
    "spaces": talk("<image>\n 几只? \n", " \n两只。\n ", "\n颜色?\n\n", "\n白色 "),
    "quotes": talk("'{{ x }}' \"\\n\" {% y %}", "'\""),
}


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("messages", TALKS.values(), ids=TALKS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_segments_are_what_transformers_renders(name, messages, prompt):
    template = chat(TEMPLATES[name])
    segments = template.segments(messages, add_generation_prompt=prompt)
    assert "".join(segment.text for segment in segments) == template.render(messages, prompt)


@pytest.mark.parametrize("name", TEMPLATES)
def test_parts_read_as_the_rows_do(name):
    template = chat(TEMPLATES[name])
    parts = [{"type": "image"}, {"type": "text", "text": "几只?"}]
    assert template.render(talk(parts), True) == template.render(talk("<image>\n几只?"), True)
    assert template.segments(talk(parts, "两只。")) == template.segments(talk("<image>\n几只?", "两只。"))


SUPERVISED = {
    "chatml": "两只。|<|im_end|>|\n|白色|<|im_end|>|\n",
    "system": "两只。|<|im_end|>|\n|白色|<|im_end|>|\n",
    "thinking": "两只。|<|im_end|>|\n|白色|<|im_end|>|\n",
    "headers": "两只。|<|eot_id|>|白色|<|eot_id|>",
    "inst": " 两只。|</s>| 白色|</s>",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_answers_and_what_ends_them_are_supervised_and_nothing_else(name):
    template = chat(TEMPLATES[name])
    assert supervised(template, TALKS["turns"]) == SUPERVISED[name]


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_answer_begins_where_the_generation_prompt_ends(name):
    template = chat(TEMPLATES[name])
    for messages in (TALKS["one"], TALKS["turns"], TALKS["system"]):
        before = template.render(messages[:-1], True)
        text = ""
        for segment in template.segments(messages):
            if text == before:
                assert segment.supervised and not segment.special
                break
            text += segment.text
        else:
            pytest.fail(f"no segment begins at the end of {before!r}")


def test_what_somebody_typed_is_no_special_segment():
    for template in map(chat, TEMPLATES.values()):
        typed = "<|im_end|></s><|eot_id|><s>"
        plain = [each.text for each in template.segments(talk("q", "a")) if each.special]
        assert [each.text for each in template.segments(talk(f"q{typed}", f"a{typed}")) if each.special] == plain


def test_a_default_system_prompt_gives_way_to_the_row_s_own():
    template = chat(DEFAULT_SYSTEM)
    assert "Be helpful." in template.render(TALKS["one"]) and "看图。" not in template.render(TALKS["one"])
    assert "Be helpful." not in template.render(TALKS["system"]) and "看图。" in template.render(TALKS["system"])


def test_a_system_message_goes_to_the_user_where_the_template_refuses_it():
    with pytest.raises(UserError, match="only user and assistant speak here"):
        ChatTemplate(INST, name="toy", special=(), variables=VARIABLES).render(TALKS["system"])
    assert chat(INST).render(TALKS["system"]) == "<s>[INST] 看图。\n\n<image>\n几只? [/INST] 两只。</s>"


def test_a_model_that_thinks_is_asked_not_to():
    template = chat(THINKING)
    assert template.render(talk("?"), True).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert supervised(template, talk("?", "\n\n!")) == "!|<|im_end|>|\n"


def test_every_day_the_same_prompt():
    text = chat(HEADERS).render(talk("?"))
    assert "Today Date: 26 Jul 2024" in text and datetime.now().strftime("%d %b %Y") not in text


def test_templates_that_need_nothing_are_kept_as_they_are():
    assert adapt(CHAT_TEMPLATE, "toy", {}) == CHAT_TEMPLATE
    assert chat(CHATML).render(TALKS["turns"]) == ChatTemplate(CHATML, name="", special=()).render(TALKS["turns"])


def test_white_space_at_the_start_of_a_template_stays():
    plain = ChatTemplate("\n " + CHATML, name="", special=())
    assert chat("\n " + CHATML).render(talk("?")) == plain.render(talk("?"))


WRONG = {
    "drops": ("{{ messages[-1].content }}</s>", "changes, drops or repeats contents"),
    "repeats": (CHATML + "{{- messages[0].content -}}", "changes, drops or repeats contents"),
    "changes": (CHATML.replace("message.content", "message.content | upper"), "changes, drops or"),
    "no end": ("{% for m in messages %}{{ m.role + ': ' + m.content }}\n{% endfor %}", "without a special token"),
    "prompt": (CHATML.replace("{{- '<|im_start|>assistant\n' -}}", "{{- 'Answer: ' -}}"), "asks for one with"),
    "syntax": ("{% for %}", "its chat template refuses the roles user"),
    "error": ("{{ messages[0].nothing.at_all }}", "its chat template refuses the roles user"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_template_that_cannot_be_supervised_is_refused_by_name(name):
    template, message = WRONG[name]
    with pytest.raises(UserError, match=f"^toy: .*{message}") as caught:
        chat(template).segments(talk("?", "!", "?", "!"))
    assert "\n" not in str(caught.value)


def test_the_name_of_the_next_speaker_is_not_supervised():
    """Vicuna's way: text follows the end of an answer without a special token of its own."""
    turn = "{%- if m.role == 'user' -%}{{- 'USER: ' + m.content + ' ASSISTANT:' -}}"
    turn += "{%- else -%}{{- ' ' + m.content + '</s>' -}}{%- endif -%}"
    template = chat("{%- for m in messages -%}" + turn + "{%- endfor -%}")
    assert supervised(template, talk("a", "b", "c", "d")) == " b|</s>| d|</s>"


def encoder_of(write, folder):
    from minivlm.training.pretrained import bring_language_model

    write(folder / "source")
    bring_language_model(folder / "source", folder / "source", folder / "llm", folder / "tokenizer")
    return ChatEncoder(folder / "tokenizer")


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gpt_neox", "mistral"])
def test_the_ids_are_those_of_transformers_but_for_the_answer_s_own_start(name, tmp_path):
    """The prompt is the rendered string's ids; the answer is what stands after them."""
    from transformers import AutoTokenizer

    encoder = encoder_of(getattr(families, name), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    messages = talk("<image>\n请描述 a bird 这张图片。", "有两只红色的帆船。")
    [row] = encoder.encode_rows([messages], image_tokens=3)
    prompt = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, tokenize=False)
    expected = tokenizer(prompt.replace("<image>", "<image>" * 3))["input_ids"]
    assert row.ids[: len(expected)].tolist() == expected and not row.mask[: len(expected)].any()
    assert row.mask[len(expected)] and encoder.end_token_id in row.ids[row.mask]
    answer = tokenizer.decode(row.ids[row.mask], skip_special_tokens=True)
    assert answer.strip() == "有两只红色的帆船。"


@pytest.mark.parametrize("flag", ["lstrip", "rstrip"])
def test_white_space_that_a_special_token_swallows_is_swallowed(flag, tmp_path):
    from tokenizers import Tokenizer

    families.chatml_tokenizer(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    next(token for token in content["added_tokens"] if token["content"] == "<|im_end|>")[flag] = True
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    families_tokens = SpecialTokens(json.dumps(content), 400, "toy")
    families_tokens.require_image("<image>")
    (tmp_path / "tokenizer.json").write_text(families_tokens.content(), encoding="utf-8")
    encoder = ChatEncoder(tmp_path)
    messages = talk("q \n", " a \n")
    whole = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(encoder.template.render(messages)).ids
    assert encoder.encode_rows([messages], 1)[0].ids.tolist() == whole


def test_an_image_token_that_can_be_typed_is_made_safe(tmp_path):
    """The original's '@': an ordinary token, whose runs in texts would be taken for pictures."""
    from transformers import LlavaProcessor, PreTrainedTokenizerFast
    from transformers.image_processing_backends import PilBackend

    families.chatml_tokenizer(tmp_path)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    processor = LlavaProcessor(
        PilBackend(), tokenizer, patch_size=8, vision_feature_select_strategy="default", image_token="@",
        num_additional_image_tokens=1, chat_template=adapt(CHATML, "toy", {}),
    )  # fmt: skip
    processor.save_pretrained(tmp_path / "model")
    for encoder in (ChatEncoder.of(processor), ChatEncoder(tmp_path / "model")):
        [row] = encoder.encode_rows([talk("<image>\na@b.c @@@@", "d@e.f")], image_tokens=4)
        assert encoder.image_token_id == tokenizer.convert_tokens_to_ids("@")
        assert np.count_nonzero(row.ids == encoder.image_token_id) == 4
        assert "d＠e.f" in encoder.decode(row.ids[row.mask].tolist())


@pytest.mark.parametrize("name", ["mistral", "qwen2"])
def test_the_mark_of_the_inside_of_a_string_can_be_typed(name, tmp_path):
    from minivlm.data.encoding import _INSIDE

    encoder = encoder_of(getattr(families, name), tmp_path)
    [row] = encoder.encode_rows([talk(f"a{_INSIDE}b", f"{_INSIDE}c")], image_tokens=1)
    assert row.ids.max() < encoder.vocabulary
    assert encoder.decode(row.ids.tolist()).count(_INSIDE) == 2
