"""An answer piece by piece, while the model writes it: for a terminal, for a page.

transformers' `generate` runs in a thread and tells of each token; what has become whole characters is a piece. The
pieces of a greedy answer together are what `caption_pictures` returns. `P` tokens of a picture, `D` width of the
language model.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from minivlm.generation.prompts import Prompt
from minivlm.generation.speed import Meter
from minivlm.generation.text import TextPieces
from minivlm.generation.writing import GREEDY, Sampling, write

if TYPE_CHECKING:
    import torch


def plain_text(processor: Any, ids: Sequence[int]) -> str:
    """The text of tokens without special ones, as the tokens have it: nothing is mended at its spaces, which would
    change text that was said already."""
    return str(processor.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class Answer:
    """The pieces of one answer, to be iterated over once, within a `with` that ends the thread whatever happens.

    with Answer(...) as answer:
        for piece in answer:
            print(piece, end="", flush=True)

    `text`: all pieces so far. `meter`: tokens and times. Iteration raises what the model raised. Leaving the
    `with` early, as Ctrl-C does, or `stop()` from another thread end the answer after the step that it is at.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        prompt: Prompt,
        features: torch.Tensor,
        *,
        max_new_tokens: int,
        sampling: Sampling = GREEDY,
        meter: Meter | None = None,
    ) -> None:
        """`features`: (pictures, P, D), as picture_features returns them; `meter`: started where time began."""
        self.text = ""
        self._cut = False
        self.meter = meter or Meter()
        self._model, self._prompt, self._features = model, prompt, features
        self._longest, self._sampling = max_new_tokens, sampling
        self._ids: list[int] = []
        self._said = TextPieces(partial(plain_text, processor))
        self._pieces: SimpleQueue[str | BaseException | None] = SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._generate, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> Iterator[str]:
        while (piece := self._pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            self.text += piece
            yield piece

    @property
    def stopped(self) -> bool:
        """Whether it was ended before its end, once no more pieces come."""
        return self._cut

    def stop(self) -> None:
        """End the answer after the step that it is at; what was written stays."""
        self._stop.set()

    def _generate(self) -> None:
        end: BaseException | None = None
        try:
            write(
                self._model,
                [self._prompt],
                self._features,
                max_new_tokens=self._longest,
                sampling=self._sampling,
                more=self._more,
            )
            if not self._cut and (piece := self._said.end(self._ids)):
                self._pieces.put(piece)
        except BaseException as error:  # told where the pieces are waited for
            end = error
        self.meter.finish(len(self._ids))
        self._pieces.put(end)

    def _more(self, ids: torch.Tensor) -> bool:
        """After every token: the piece that it completes is handed on."""
        self.meter.put(ids)
        self._ids = ids.tolist()
        if piece := self._said.more(self._ids):
            self._pieces.put(piece)
        self._cut = self._stop.is_set()
        return not self._cut


def visible(piece: str) -> str:
    """A piece for a terminal: line ends stay, other white space is a space, and other control characters go, which
    a terminal would obey."""
    return "".join(c if c == "\n" else " " if c.isspace() else c for c in piece if c.isspace() or c.isprintable())
