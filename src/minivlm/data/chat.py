"""The chat template and the loss mask: one of each, for tokenize, training, generation and serving.

The template is the tokenizer's own, Jinja as transformers renders it; CHAT_TEMPLATE is that of the tokenizers made
here. Rows are not rendered as strings, in which somebody's `<|im_end|>` would end a turn: what the template writes
around the contents is found once for each sequence of roles, by rendering stand-ins, and cut at its special
tokens.

A message's content is a string, in which `<image>` marks the place of a picture, or a list of parts as
transformers has them: `{"type": "image"}` is written `<image>\\n` and `{"type": "text", "text": …}` as it is, so
that a picture and a question read as the rows do: `<image>\\n请描述这张图片。`
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from minivlm.errors import UserError

PAD_TOKEN = "<|endoftext|>"
BOS_TOKEN = "<|im_start|>"
EOS_TOKEN = "<|im_end|>"
IMAGE_TOKEN = "<image>"
SPECIAL_TOKENS = (PAD_TOKEN, BOS_TOKEN, EOS_TOKEN, IMAGE_TOKEN)  # in the order of their ids, from 0

ASSISTANT = "assistant"

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\n' -}}"
    "{%- if message['content'] is string -%}"
    "{{- message['content'] -}}"
    "{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}"
    "{{- '<image>\n' -}}"
    "{%- elif part['type'] == 'text' -%}"
    "{{- part['text'] -}}"
    "{%- else -%}"
    "{{- raise_exception('a part of a message is of type image or text') -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{{- '<|im_end|>\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{- '<|im_start|>assistant\n' -}}"
    "{%- endif -%}"
)

Messages = Sequence[Mapping[str, Any]]


class Segment(NamedTuple):
    """A stretch of a conversation: one special token, or text in which no special token is meant."""

    text: str
    special: bool
    supervised: bool = False


class _Frame(NamedTuple):
    """What a template writes before, between and after the contents of messages with certain roles.

    `before[k]` stands before content k, the last one after all. `answer[k]`: how many of its last characters a
    model has to write itself, because they come after the generation prompt. `strip[k]`: characters that the
    template takes off the left and the right of content k.
    """

    before: tuple[str, ...]
    answer: tuple[int, ...]
    strip: tuple[tuple[str | None, str | None], ...]


# What a template may take off a content, as str.strip has it: nothing, line ends, or all white space; and what is
# then left of the padding around a stand-in.
_PADDING = "\n \t\n"
_KEPT_FRAMES = 256  # sequences of roles; rows have a few
_STRIPS: tuple[str | None, ...] = ("", "\n", None)
_LEFT = {strip: _PADDING.lstrip(strip) for strip in _STRIPS}
_RIGHT = {strip: _PADDING.rstrip(strip) for strip in _STRIPS}


class ChatTemplate:
    """A tokenizer's template, in the pieces that it is encoded in."""

    def __init__(
        self, template: str, *, name: str, special: Iterable[str], variables: Mapping[str, str] | None = None
    ) -> None:
        """`special`: texts of the tokenizer's special tokens; `variables`: what a template may name, `bos_token`
        and its like; `name`: the tokenizer, for messages."""
        self._template, self._name, self._variables = template, name, dict(variables or {})
        longest = sorted(special, key=len, reverse=True)
        self._special = re.compile(f"({'|'.join(map(re.escape, longest)) or '(?!)'})")
        self._frames: dict[tuple[tuple[str, ...], bool], _Frame] = {}

    def render(self, messages: Messages, add_generation_prompt: bool = False) -> str:
        """The string that transformers makes of the messages; UserError when the template refuses them."""
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            (text,), _ = render_jinja_template(
                [list(messages)],
                chat_template=self._template,
                add_generation_prompt=add_generation_prompt,
                **self._variables,
            )
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            roles = ", ".join(str(message["role"]) for message in messages)
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{self._name}: its chat template refuses the roles {roles}: {reason}") from None
        return str(text)

    def segments(self, messages: Messages, add_generation_prompt: bool = False) -> list[Segment]:
        """The messages as the template writes them, cut at its special tokens.

        Encoded one by one, the text with special tokens switched off, they give the ids of the whole string; a
        `<|im_end|>` that somebody typed stays text. An answer begins a segment, as it does when it is generated.
        Supervised are the answers, the special token that ends each, and white space between that and the next
        special token. UserError when the template changes contents, or ends an answer without a special token;
        ValueError for a part that is neither image nor text.
        """
        roles = tuple(str(message["role"]) for message in messages)
        frame = self._frame(roles, add_generation_prompt)
        found: list[Segment] = []
        for k, text in enumerate(frame.before):
            split = len(text) - (frame.answer[k] if k < len(roles) else 0)
            if k > 0 and roles[k - 1] == ASSISTANT:
                found += self._after_answer(text[:split], last=k == len(roles))
            else:
                found += self._cut(text[:split])
            if k < len(roles):
                is_answer = roles[k] == ASSISTANT
                found.append(Segment(text[split:], False, is_answer))
                left, right = frame.strip[k]
                found += _stripped(_content(messages[k]["content"], is_answer), left, right)
        return _joined(found)

    def asks_as_it_answers(self) -> bool:
        """Whether the generation prompt is all that stands before an answer: no empty thoughts, for one."""
        try:
            return self._frame(("user", ASSISTANT), False).answer[1] == 0
        except UserError:
            return False

    def end_token(self) -> str:
        """The special token that ends an answer."""
        messages = [{"role": "user", "content": "?"}, {"role": ASSISTANT, "content": "!"}]
        return next(each.text for each in self.segments(messages) if each.special and each.supervised)

    def _cut(self, text: str) -> list[Segment]:
        """Text that the template wrote: text, special token, text, …, text."""
        return [Segment(part, bool(i % 2)) for i, part in enumerate(self._special.split(text))]

    def _after_answer(self, text: str, last: bool) -> list[Segment]:
        parts = self._cut(text)
        if len(parts) == 1:
            raise UserError(
                f"{self._name}: its chat template ends an answer without a special token, so that nothing would "
                "tell a model to stop there"
            )
        parts[:2] = [part._replace(supervised=True) for part in parts[:2]]
        # White space is the line end that belongs to the turn; the name of who speaks next is nothing to learn.
        if not parts[2].text.strip() and (last or len(parts) > 3):
            parts[2] = parts[2]._replace(supervised=True)
        return parts

    def _frame(self, roles: tuple[str, ...], add_generation_prompt: bool) -> _Frame:
        key = (roles, add_generation_prompt)
        if key not in self._frames:
            before = self._gaps(roles, add_generation_prompt, "")
            padded = self._gaps(roles, add_generation_prompt, _PADDING)
            strip = self._strips(before, padded)
            answer = tuple(self._written(roles, before, k) for k in range(len(roles)))
            if len(self._frames) >= _KEPT_FRAMES:  # of a server, whose clients choose the roles
                self._frames.clear()
            self._frames[key] = _Frame(before, answer, strip)
        return self._frames[key]

    def _gaps(self, roles: tuple[str, ...], add_generation_prompt: bool, padding: str) -> tuple[str, ...]:
        """What stands around stand-ins for the contents."""
        names = [f"zq{k}content{k}qz" for k in range(len(roles))]
        messages = [
            {"role": role, "content": f"{padding}{name}{padding}"} for role, name in zip(roles, names, strict=True)
        ]
        text = self.render(messages, add_generation_prompt)
        gaps = []
        for name in names:
            gap, found, rest = text.partition(name)
            if not found or name in rest:
                raise self._changes(roles)
            gaps.append(gap)
            text = rest
        return (*gaps, text)

    def _strips(
        self, before: tuple[str, ...], padded: tuple[str, ...]
    ) -> tuple[tuple[str | None, str | None], ...]:
        """What is taken off the left and the right of each content, from the gaps around padded stand-ins."""
        lefts: list[str | None] = []
        rights: list[str | None] = []
        last = len(before) - 1
        for k, (gap, wide) in enumerate(zip(before, padded, strict=True)):
            for right, left in itertools.product(_STRIPS if k else [None], _STRIPS if k < last else [None]):
                if wide == (_RIGHT[right] if k else "") + gap + (_LEFT[left] if k < last else ""):
                    break
            else:
                raise self._changes(())
            lefts.append(left)
            rights.append(right)
        return tuple(zip(lefts[:-1], rights[1:], strict=True))

    def _written(self, roles: tuple[str, ...], before: tuple[str, ...], k: int) -> int:
        """How many characters before answer k come after the generation prompt."""
        if roles[k] != ASSISTANT or k == 0:
            return 0
        prompt = self._gaps(roles[:k], True, "")
        # A template may write the past in another way than the present: Qwen3 leaves thoughts out.
        if before[:k] == prompt[:k] and before[k].startswith(prompt[k]):
            return len(before[k]) - len(prompt[k])
        if k == len(roles) - 1:
            raise UserError(
                f"{self._name}: its chat template writes something else before an answer, {before[k]!r}, than it "
                f"asks for one with, {prompt[k]!r}"
            )
        return 0

    def _changes(self, roles: tuple[str, ...]) -> UserError:
        listed = f" of the roles {', '.join(roles)}" if roles else ""
        return UserError(f"{self._name}: its chat template changes, drops or repeats contents{listed}")


def _content(content: str | Sequence[Mapping[str, Any]], is_answer: bool) -> list[Segment]:
    if isinstance(content, str):
        texts = content.split(IMAGE_TOKEN)
        parts = [Segment(texts[0], False, is_answer)]
        for text in texts[1:]:
            parts += [Segment(IMAGE_TOKEN, True), Segment(text, False, is_answer)]
        return parts
    parts = []
    for part in content:
        if part["type"] == "image":
            parts += [Segment(IMAGE_TOKEN, True), Segment("\n", False, is_answer)]
        elif part["type"] == "text":
            parts.append(Segment(part["text"], False, is_answer))
        else:
            raise ValueError(f"a part of a message is of type image or text, not {part['type']!r}")
    return parts


def _stripped(parts: list[Segment], left: str | None, right: str | None) -> list[Segment]:
    """Without the characters `left` at the start and `right` at the end, as str.strip takes them."""
    parts = _joined(parts)
    if parts and not parts[0].special:
        parts[0] = parts[0]._replace(text=parts[0].text.lstrip(left))
    if parts and not parts[-1].special:
        parts[-1] = parts[-1]._replace(text=parts[-1].text.rstrip(right))
    return parts


def _joined(parts: Iterable[Segment]) -> list[Segment]:
    """Neighbouring texts as one, unless only one is supervised; empty ones left out."""
    joined: list[Segment] = []
    for part in parts:
        if not part.text:
            continue
        if joined and not part.special and joined[-1][1:] == part[1:]:
            joined[-1] = joined[-1]._replace(text=joined[-1].text + part.text)
        else:
            joined.append(part)
    return joined
