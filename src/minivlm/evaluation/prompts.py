"""A conversation with pictures → the ids and embeddings that a model answers; what a user types is text, always.

Used by everything that lets people ask: `minivlm caption`, and whatever chats or serves. The chat template is
rendered with marks in place of what people wrote, the result is cut at its special tokens, and the text between
them is encoded with special tokens switched off. So a typed `<image>`, `<|im_end|>` or `<|im_start|>` is the
characters it is made of, and in an imported model a typed '@', the very token that its pictures are made of, is an
at sign: pictures stand where the template put them and nowhere else. Ids alone cannot say that, so models are
given embeddings. For texts without such things the ids are those of transformers' own processor.

`B` prompts, `T` tokens, `P` tokens of a picture, `D` width of the language model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minivlm.data.encoding import ChatEncoder
from minivlm.errors import UserError

if TYPE_CHECKING:
    import torch
    from PIL import Image

# Private-use characters around a number: in no tokenizer's special token, and nothing a template looks for.
_OPEN, _CLOSE = "\ue0b0", "\ue0b1"
_MARK = re.compile(f"{_OPEN}(\\d+){_CLOSE}")


@dataclass(frozen=True)
class Prompt:
    """Ids before the answer; `pictures[t]` says that id `t` is a token of a picture and not text."""

    ids: list[int]
    pictures: list[bool]


def one_question(question: str) -> list[dict[str, Any]]:
    """One user turn: a picture, then `question`."""
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]


def build_prompt(processor: Any, messages: Sequence[Mapping[str, Any]], image_tokens: int) -> Prompt:
    """The ids of a conversation and of the header of its answer, each picture as `image_tokens` ids.

    `messages` as transformers has them: `role` and `content`, a string (text alone) or a list of parts, `{"type":
    "image"}` and `{"type": "text", "text": …}`. UserError when the template drops a picture or a text.
    """
    typed: list[str] = []
    marked = [{"role": message["role"], "content": _marked(message["content"], typed)} for message in messages]
    rendered = str(processor.apply_chat_template(marked, add_generation_prompt=True, tokenize=False))
    if sorted(map(int, _MARK.findall(rendered))) != list(range(len(typed))):
        raise UserError("the model's chat template does not write every text of the conversation exactly once")
    encoder = ChatEncoder.of(processor)
    ids: list[int] = []
    pictures: list[bool] = []
    for text, special in _segments(processor, rendered, typed):
        picture = special and text == processor.image_token
        some = _special_ids(processor, text, image_tokens) if special else text_ids(encoder, text, not ids)
        ids += some
        pictures += [picture] * len(some)
    meant = sum(
        part["type"] == "image" for each in messages for part in each["content"] if isinstance(part, Mapping)
    )
    if sum(pictures) != meant * image_tokens:
        raise UserError(f"the model's chat template does not write the {meant} pictures of the conversation")
    return Prompt(ids, pictures)


def text_ids(encoder: ChatEncoder, text: str, begins: bool) -> list[int]:
    """Ids of plain text, which `begins` a prompt or stands within one; a special token that somebody typed stays
    text, half a surrogate pair becomes U+FFFD."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return encoder.text_ids(text, begins)


def picture_features(model: Any, processor: Any, pictures: Sequence[Image.Image]) -> torch.Tensor:
    """What the language model sees of each picture, (pictures, P, D), on the model's device.

    Transparency is dropped first, as in training and in the original; transformers 5 would lay it on white.
    """
    import torch

    opaque = [picture.convert("RGB") for picture in pictures]
    inputs = processor.image_processor(images=opaque, return_tensors="pt")
    pixels = inputs["pixel_values"].to(model.device, model.dtype)  # (pictures, 3, height, width)
    with torch.inference_mode():
        return torch.stack(list(model.get_image_features(pixel_values=pixels).pooler_output))


def embed(model: Any, prompts: Sequence[Prompt], features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(embeddings (B, T, D), attention mask (B, T)), padded on the left; `features` at the pictures' places."""
    import torch

    length = max(len(prompt.ids) for prompt in prompts)
    ids = torch.zeros(len(prompts), length, dtype=torch.long)  # what is embedded as padding is never attended to
    picture = torch.zeros(len(prompts), length, dtype=torch.bool)
    mask = torch.zeros(len(prompts), length, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        start = length - len(prompt.ids)
        ids[row, start:] = torch.tensor(prompt.ids)
        picture[row, start:] = torch.tensor(prompt.pictures)
        mask[row, start:] = 1
    if int(picture.sum()) != features.shape[:2].numel():
        raise UserError(f"{int(picture.sum())} picture tokens for {len(features)} pictures of {features.shape[1]}")
    with torch.inference_mode():
        embeddings = model.get_input_embeddings()(ids.to(model.device))
        place = picture.to(model.device)[..., None]
        return embeddings.masked_scatter(place, features.to(embeddings.dtype)), mask.to(model.device)


def _marked(content: Any, typed: list[str]) -> Any:
    """The content with a mark for each text; the texts are appended to `typed`."""

    def mark(text: str) -> str:
        typed.append(text)
        return f"{_OPEN}{len(typed) - 1}{_CLOSE}"

    if isinstance(content, str):
        return mark(content)
    return [{"type": "text", "text": mark(part["text"])} if part["type"] == "text" else part for part in content]


def _segments(processor: Any, rendered: str, typed: Sequence[str]) -> list[tuple[str, bool]]:
    """The rendered template, cut at its special tokens: (text, whether it is one of them); marks are replaced."""
    tokenizer = processor.tokenizer
    # all_special_tokens has those with a name alone, not the headers of a Llama-3 chat.
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    special.add(processor.image_token)
    longest_first = sorted(special, key=lambda token: (-len(token), token))
    pieces = re.split(f"({'|'.join(map(re.escape, longest_first))})", rendered)
    return [
        (piece if i % 2 else _MARK.sub(lambda match: typed[int(match.group(1))], piece), bool(i % 2))
        for i, piece in enumerate(pieces)
        if piece
    ]


def _special_ids(processor: Any, token: str, image_tokens: int) -> list[int]:
    number = processor.tokenizer.convert_tokens_to_ids(token)
    if token == processor.image_token:
        return [int(processor.image_token_id)] * image_tokens
    return [int(number)]
