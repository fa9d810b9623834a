"""A chat template that came with a tokenizer -> one that reads pictures and says the same every day.

The template is kept as it is; what it lacks is put before it, in Jinja, so that transformers alone gives the same
prompts. Put before it is only what is needed:

- parts of a message become the one string that most templates expect, a picture `<image>\\n`, as in CHAT_TEMPLATE;
- a system message goes in front of the next user's, where the template refuses that role;
- `enable_thinking` is false, where the template would otherwise ask for thoughts that its answers have not;
- `strftime_now` says one fixed day, or the same rows would become other tokens tomorrow;
- `first` is written, the token that a tokenizer without a template of its own puts before every text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minivlm.data.chat import ChatTemplate
from minivlm.errors import UserError

_DAY = {"%d": "26", "%m": "07", "%b": "Jul", "%B": "July", "%Y": "2024", "%y": "24", "%A": "Friday", "%a": "Fri"}
_FIXED_DAY = (
    "{%- macro strftime_now(format) -%}{{- format"
    + "".join(f" | replace('{code}', '{text}')" for code, text in _DAY.items())
    + " -}}{%- endmacro -%}"
)
_NO_THOUGHTS = "{%- if enable_thinking is not defined -%}{%- set enable_thinking = false -%}{%- endif -%}"
_FLATTEN = (
    "{%- set flat = namespace(messages=[], text='', system='') -%}"
    "{%- for message in messages -%}"
    "{%- set flat.text = '' -%}"
    "{%- if message['content'] is string -%}"
    "{%- set flat.text = message['content'] -%}"
    "{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}"
    "{%- set flat.text = flat.text + '<image>\n' -%}"
    "{%- elif part['type'] == 'text' -%}"
    "{%- set flat.text = flat.text + part['text'] -%}"
    "{%- else -%}"
    "{{- raise_exception('a part of a message is of type image or text') -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{KEEP}"
    "{%- endfor -%}"
    "{%- set messages = flat.messages -%}"
)
_KEEP = "{%- set flat.messages = flat.messages + [{'role': message['role'], 'content': flat.text}] -%}"
_KEEP_WITHOUT_SYSTEM = (
    "{%- if message['role'] == 'system' -%}"
    "{%- set flat.system = flat.system + flat.text + '\n\n' -%}"
    "{%- elif message['role'] == 'user' -%}"
    "{%- set flat.messages = flat.messages + [{'role': 'user', 'content': flat.system + flat.text}] -%}"
    "{%- set flat.system = '' -%}"
    "{%- else -%}" + _KEEP + "{%- endif -%}"
)

_QUESTION = [{"role": "user", "content": "<image>\nquestion"}]
_PARTS = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "question"}]}]
_ANSWER = {"role": "assistant", "content": "answer"}
_SYSTEM = {"role": "system", "content": "rules"}
_PROBES = (_QUESTION, [*_QUESTION, _ANSWER], [*_QUESTION, _ANSWER, *_QUESTION, _ANSWER])


def adapt(template: str, name: str, variables: Mapping[str, str], first: str | None = None) -> str:
    """The template with what it lacks put before it.

    `variables`: tokens that it may name; `first`: a token to begin with; `name`: the tokenizer, for messages.
    UserError when it refuses a question and an answer.
    """
    dated = "strftime_now" in template
    thinks = "enable_thinking" in template and not _renderer(template, name, variables).asks_as_it_answers()
    before = (_FIXED_DAY if dated else "") + (_NO_THOUGHTS if thinks else "")
    plain = _renderer(before + template, name, variables)
    question = plain.render(_QUESTION, add_generation_prompt=True)
    if first and not question.startswith(first):
        before = "{{- " + _quoted(first) + " -}}" + before
    refuses_system = not _accepts(plain, [_SYSTEM, *_QUESTION])
    if refuses_system or not _accepts(plain, _PARTS) or plain.render(_PARTS, True) != question:
        before += _FLATTEN.replace("{KEEP}", _KEEP_WITHOUT_SYSTEM if refuses_system else _KEEP)
    if not before:
        return template
    # The last tag would eat white space that the template begins with.
    adapted = before + ("{{- '' }}" if template[:1].isspace() else "") + template
    _require_the_same(template, adapted, name, dict(variables), first, thinks, dated)
    return adapted


def _require_the_same(
    template: str, adapted: str, name: str, variables: dict[str, Any], first: str | None, thinks: bool, dated: bool
) -> None:
    """UserError unless the template says with what was put before it what it said without, to plain messages."""
    old = _renderer(template, name, variables | ({"enable_thinking": False} if thinks else {}))
    new = _renderer(adapted, name, variables)
    for messages in _PROBES:
        for prompt in (False, True):
            before, after = old.render(messages, prompt), new.render(messages, prompt)
            if not dated and after not in (before, f"{first}{before}"):
                raise UserError(f"{name}: its chat template cannot be made to read pictures: {after!r}")
    if new.render(_PARTS, True) != new.render(_QUESTION, True):
        raise UserError(f"{name}: its chat template cannot be made to read pictures")


def _renderer(template: str, name: str, variables: Mapping[str, Any]) -> ChatTemplate:
    return ChatTemplate(template, name=name, special=(), variables=variables)


def _accepts(template: ChatTemplate, messages: list[dict[str, Any]]) -> bool:
    try:
        template.render(messages)
    except UserError:
        return False
    return True


def _quoted(text: str) -> str:
    """A Jinja string; tokens hold neither quotes nor backslashes."""
    return f"'{text}'"
