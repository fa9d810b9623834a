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

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from minivlm.data.encoding import ChatEncoder
from minivlm.errors import UserError

if TYPE_CHECKING:
    import torch
    from PIL import Image


_encoders: WeakKeyDictionary[Any, ChatEncoder] = WeakKeyDictionary()
"""Of each processor in use: making one takes milliseconds, a third of the time to a small model's first token."""


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
    if processor not in _encoders:
        _encoders[processor] = ChatEncoder.of(processor)
    ids, pictures = _encoders[processor].encode_prompt(plain, image_tokens)
    return Prompt(ids, pictures)


def room(model: Any, prompt_tokens: int, wanted: int = 1) -> int:
    """How many tokens a prompt leaves an answer, at least the `wanted` ones; UserError when it leaves fewer.

    Beyond its positions a model writes nonsense and says nothing of it.
    """
    positions: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is None:
        return sys.maxsize
    left = positions - prompt_tokens
    if wanted <= left:
        return left
    if wanted > positions:
        raise UserError(f"an answer of {wanted:,} tokens: the model has {positions:,} positions; take fewer")
    if left < 1:
        both, mend = "", "ask a shorter one, or begin anew with fewer pictures"
    else:
        both, mend = f", the answer up to {wanted:,}", "ask a shorter one, or take fewer for the answer"
    raise UserError(
        f"the question and its pictures take {prompt_tokens:,} tokens{both}, and the model has {positions:,} "
        f"positions; {mend}"
    )


def picture_pixels(processor: Any, picture: Image.Image) -> torch.Tensor:
    """A picture of any size as the vision tower takes it, (3, height, width), resized and normalised.

    Transparency is dropped first, as in training and in the original; transformers 5 would lay it on white.
    """
    opaque = picture if picture.mode == "RGB" else picture.convert("RGB")
    pixels: torch.Tensor = processor.image_processor(images=opaque, return_tensors="pt")["pixel_values"][0]
    return pixels


def picture_features(model: Any, processor: Any, pictures: Iterable[Image.Image]) -> torch.Tensor:
    """What the language model sees of each picture, (pictures, P, D), on the model's device.

    They are made small one after another: of those that an iterator decodes one is held. Of none: (0, 0, D).
    """
    import torch

    # map, and not a loop: nothing here holds a picture while the next one is decoded.
    pixels = list(map(partial(picture_pixels, processor), pictures))  # (3, height, width) each
    if not pixels:
        return torch.empty(0, 0, model.get_input_embeddings().embedding_dim, device=model.device)
    with torch.inference_mode():
        seen = model.get_image_features(pixel_values=torch.stack(pixels).to(model.device, model.dtype))
        return torch.stack(list(seen.pooler_output))


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
    """The content as parts: a string is text alone."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [part | {"text": whole(part["text"])} if part["type"] == "text" else part for part in map(dict, parts)]


def whole(text: str) -> str:
    """Half a surrogate pair, which JSON can hold and UTF-8 cannot, as U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
