"""A request that was understood → its answer, piece by piece, with the prompts and steps of `minivlm caption`.

It runs on the one thread that computes, and tells the event loop. Greedy answers, the default, are those of
`minivlm.generation.captions`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from minivlm.errors import UserError
from minivlm.generation.opening import picture_size, read_picture
from minivlm.generation.prompts import Prompt, build_prompt, picture_features, room
from minivlm.generation.streaming import plain_text
from minivlm.generation.text import TextPieces
from minivlm.generation.writing import Sampling, write
from minivlm.serving.errors import RequestError, stopping
from minivlm.serving.limits import Limits
from minivlm.serving.listening import Begun, Ended, Listener
from minivlm.serving.request import Asked
from minivlm.serving.visit import Visit

if TYPE_CHECKING:
    import torch
    from PIL import Image

T = TypeVar("T")


class Answerer:
    """One model with its processor; one answer at a time."""

    def __init__(self, model: Any, processor: Any, limits: Limits | None = None) -> None:
        """As `minivlm.generation.loading.load_model` gives them."""
        from PIL import Image

        self.model, self.processor, self.limits = model, processor, limits or Limits()
        self.closing = threading.Event()  # set: answers end at their next token
        self._image_tokens = picture_features(model, processor, [Image.new("RGB", (8, 8))]).shape[1]
        ends = model.generation_config.eos_token_id
        self._ends = frozenset(ends if isinstance(ends, list) else [ends])

    def answer(self, asked: Asked, visit: Visit, listener: Listener) -> None:
        """Tell Begun, the pieces and Ended, or anywhere an exception: a RequestError is the request's fault."""
        try:
            if not visit.over.is_set():
                self._answer(asked, visit, listener)
        except Exception as error:  # also a bug: the event loop has to know, or the request would wait on
            listener.tell(error)

    def _answer(self, asked: Asked, visit: Visit, listener: Listener) -> None:
        visit.begun = time.monotonic()
        until = visit.begun + self.limits.seconds
        self._still_wanted(visit)
        prompt, tokens = self._prompt(asked)
        self._check_size(asked)
        features = picture_features(self.model, self.processor, self._pictures(asked, visit, until))
        self._still_wanted(visit)
        visit.pictures, visit.prompt_tokens = len(asked.pictures), len(prompt.ids)
        listener.tell(Begun(len(prompt.ids)))
        pieces = TextPieces(self.decode, asked.stop)

        def more(ids: torch.Tensor) -> bool:
            visit.last, visit.tokens = time.monotonic(), len(ids)
            visit.first = visit.first or visit.last
            if piece := pieces.more(ids.tolist()):
                listener.tell(piece)
            wanted = not (visit.over.is_set() or self.closing.is_set())
            return wanted and not pieces.stopped and visit.last <= until

        [ids] = write(self.model, [prompt], features, max_new_tokens=tokens, sampling=_sampling(asked), more=more)
        if left := pieces.end(ids):
            listener.tell(left)
        visit.reason = "stop" if pieces.stopped or ids[-1] in self._ends else "length"
        listener.tell(Ended(visit.reason, len(ids)))

    def decode(self, ids: Sequence[int]) -> str:
        """Text without special tokens."""
        return plain_text(self.processor, ids)

    def _still_wanted(self, visit: Visit) -> None:
        """RequestError when the answer is not to be computed any more; a client that has gone is told nothing."""
        if self.closing.is_set() or visit.over.is_set():
            raise stopping()

    def _prompt(self, asked: Asked) -> tuple[Prompt, int]:
        """The prompt, and how many tokens its answer may have; RequestError where there is no room for both."""
        code = "invalid_value"
        try:
            prompt = build_prompt(self.processor, asked.messages, self._image_tokens)
            code = "context_length_exceeded"
            left = room(self.model, len(prompt.ids), asked.max_tokens or 1)
        except UserError as error:
            raise RequestError(400, f"messages: {error}", code=code, param="messages") from None
        return prompt, asked.max_tokens or min(self.limits.tokens, left)

    def _check_size(self, asked: Asked) -> None:
        """RequestError when a picture is none, or all together have too many pixels; nothing is decoded for it."""
        pixels = 0
        for place, data in asked.pictures:
            width, height = _read(picture_size, data, place)
            pixels += width * height
        if pixels > self.limits.pixels:
            said = f"messages: pictures of {pixels:,} pixels together, of at most {self.limits.pixels:,}"
            raise RequestError(400, f"{said}; send smaller ones", code="invalid_image", param="messages")

    def _pictures(self, asked: Asked, visit: Visit, until: float) -> Iterator[Image.Image]:
        """Each decoded when it is asked for, as long as the answer is wanted; none is held here."""
        for place, data in asked.pictures:
            self._still_wanted(visit)
            if time.monotonic() > until:
                said = f"the pictures before it took {self.limits.seconds:g} s; send fewer or smaller ones"
                raise RequestError(400, f"{place}: {said}", code="pictures_too_slow", param="messages")
            yield _read(read_picture, data, place)


def _read(read: Callable[[bytes], T | str], data: bytes, place: str) -> T:
    found = read(data)
    if isinstance(found, str):
        raise RequestError(400, f"{place}: {found}", code="invalid_image", param=place)
    return found


def _sampling(asked: Asked) -> Sampling:
    """OpenAI's `top_p` may be 0, the most probable token alone, and its seeds negative."""
    if asked.top_p == 0:
        return Sampling()
    return Sampling(asked.temperature, asked.top_p, None if asked.seed is None else asked.seed % (1 << 63))
