"""A conversation with pictures → the ids and embeddings that a model answers; what a user types is text, always.

Used by everything that lets people ask: `minivlm caption`, and whatever chats or serves. Prompts are encoded as
training's rows are (`minivlm.data.encoding`), text with special tokens switched off. So a typed `<image>`,
`<|im_end|>` or `<|im_start|>` is the characters it is made of, and in an imported model a typed '@', the token
that its pictures are made of, is an at sign: pictures stand where a part says so and nowhere else. Ids alone
cannot say that, so models are given embeddings. For texts without such things the ids are those of
transformers' processor.

`B` prompts, `T` tokens, `P` tokens of a picture, `D` width of the language model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minivlm.data.encoding import ChatEncoder
from minivlm.errors import UserError

if TYPE_CHECKING:
    import torch
    from PIL import Image


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
    "image"}` and `{"type": "text", "text": …}`. UserError when the template changes or drops a text.
    """
    plain = [{"role": message["role"], "content": _parts(message["content"])} for message in messages]
    ids, pictures = ChatEncoder.of(processor).encode_prompt(plain, image_tokens)
    return Prompt(ids, pictures)


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


def _parts(content: str | Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The content as parts: a string is text alone. Half a surrogate pair becomes U+FFFD, as no UTF-8 holds it."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [part | {"text": _whole(part["text"])} if part["type"] == "text" else part for part in map(dict, parts)]


def _whole(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
