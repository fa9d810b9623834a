"""The chat template and the loss mask: one of each, for tokenize, training, generation and serving.

A message is `<|im_start|>{role}\\n{content}<|im_end|>\\n`; the generation prompt is `<|im_start|>assistant\\n`.
Content is a string, in which `<image>` marks the place of a picture, or a list of parts as transformers has them:
`{"type": "image"}` is written `<image>\\n` and `{"type": "text", "text": …}` as it is, so that a picture and a
question read as the rows do: `<image>\\n请描述这张图片。`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PAD_TOKEN = "<|endoftext|>"
BOS_TOKEN = "<|im_start|>"
EOS_TOKEN = "<|im_end|>"
IMAGE_TOKEN = "<image>"
SPECIAL_TOKENS = (PAD_TOKEN, BOS_TOKEN, EOS_TOKEN, IMAGE_TOKEN)  # in the order of their ids, from 0

ASSISTANT = "assistant"
ASSISTANT_HEADER = f"{BOS_TOKEN}{ASSISTANT}"
GENERATION_PROMPT = f"{ASSISTANT_HEADER}\n"

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


class Segment(NamedTuple):
    """A stretch of a conversation: one special token, or text in which no special token is meant."""

    text: str
    special: bool


def segments(messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = False) -> Iterator[Segment]:
    """The template, cut at its special tokens.

    Encoded one by one, the text with special tokens switched off, they give the ids of the whole string; a
    `<|im_end|>` that somebody typed stays text. ValueError for a part that is neither image nor text.
    """
    for message in messages:
        yield Segment(BOS_TOKEN, True)
        text = f"{message['role']}\n"
        for piece in _content(message["content"]):
            if piece.special:
                yield Segment(text, False)
                yield piece
                text = ""
            else:
                text += piece.text
        yield Segment(text, False)
        yield Segment(EOS_TOKEN, True)
        yield Segment("\n", False)
    if add_generation_prompt:
        yield Segment(BOS_TOKEN, True)
        yield Segment(f"{ASSISTANT}\n", False)


def _content(content: str | Sequence[Mapping[str, Any]]) -> Iterator[Segment]:
    if isinstance(content, str):
        for i, text in enumerate(content.split(IMAGE_TOKEN)):
            if i:
                yield Segment(IMAGE_TOKEN, True)
            yield Segment(text, False)
        return
    for part in content:
        if part["type"] == "image":
            yield Segment(IMAGE_TOKEN, True)
            yield Segment("\n", False)
        elif part["type"] == "text":
            yield Segment(part["text"], False)
        else:
            raise ValueError(f"a part of a message is of type image or text, not {part['type']!r}")


def render(messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = False) -> str:
    """What CHAT_TEMPLATE makes of the messages."""
    return "".join(segment.text for segment in segments(messages, add_generation_prompt))


def loss_mask(ids: npt.NDArray[np.integer], header_ids: Sequence[int], end_id: int) -> npt.NDArray[np.bool_]:
    """Which tokens of a row, `ids` (T,), are supervised, (T,), as the original has it.

    `header_ids` are the ids of `<|im_start|>assistant`, `end_id` is `<|im_end|>`. After each header one token (the
    newline) is skipped; the answer, its `<|im_end|>` and the one token after that (the newline) are supervised. An
    answer without an end, because the row was truncated, is supervised up to the last token. Source: the loss mask
    of minimind-v's VLMDataset.
    """
    import numpy as np

    width = len(header_ids)
    starts = np.flatnonzero(ids[: max(0, len(ids) - width + 1)] == header_ids[0])
    for offset in range(1, width):
        starts = starts[ids[starts + offset] == header_ids[offset]]
    starts += width  # the token that is skipped
    ends = np.append(np.flatnonzero(ids == end_id), len(ids))
    stops = ends[np.searchsorted(ends, starts)] + 2
    mask = np.zeros(len(ids), dtype=bool)
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):  # one for each answer
        mask[start + 1 : stop] = True
    return mask
