"""A conversation about pictures: several turns, each answered piece by piece; the oldest are forgotten when the
model has no room for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from minivlm.generation.prompts import Prompt, build_prompt, picture_features, room
from minivlm.generation.speed import Meter
from minivlm.generation.streaming import Answer
from minivlm.generation.writing import GREEDY, Sampling

if TYPE_CHECKING:
    import torch
    from PIL import Image


@dataclass(frozen=True)
class Turn:
    """A question with its pictures as the model sees them, (P, D) each, and what was answered."""

    question: str
    pictures: tuple[torch.Tensor, ...]
    answer: Answer | str

    @property
    def said(self) -> str:
        """The answer's text; of one that was stopped, as far as it came."""
        return self.answer if isinstance(self.answer, str) else self.answer.text


class Conversation:
    """The turns so far and the pictures that the next question will be about.

    A picture goes through the vision tower once, when it is first asked about.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._model, self._processor = model, processor
        self._turns: list[Turn] = []
        self._shown: list[Image.Image] = []  # before the next question, not seen yet
        self._waiting: list[torch.Tensor] = []  # before the next question, as the model sees them
        self.forgotten = 0
        """Turns that the last question had to leave out."""

    @property
    def pictures(self) -> int:
        """How many there are, in the turns and waiting for the next question."""
        return len(self._shown) + len(self._waiting) + sum(len(turn.pictures) for turn in self._turns)

    def show(self, picture: Image.Image) -> None:
        """Put a picture before the next question."""
        self._shown.append(picture)

    def add(self, question: str, answer: str) -> None:
        """A turn that has been, with the pictures that were shown for it."""
        self._turns.append(Turn(question, self._seen(), answer))
        self._waiting = []

    def reset(self) -> None:
        """Forget the turns; their pictures wait for the next question."""
        self._waiting = [each for turn in self._turns for each in turn.pictures] + self._waiting
        self._turns = []

    def ask(
        self,
        question: str,
        *,
        max_new_tokens: int,
        sampling: Sampling = GREEDY,
        meter: Meter | None = None,
    ) -> Answer:
        """The answer to come, to be iterated over within a `with`; what is read of it is the turn's answer.

        A turn that was stopped before its first character is as if it had not been. `meter`: one that has started,
        where this question's time began before. UserError, and nothing is changed, when the question alone has no
        room, or when the answer could be longer than what the model has positions for.
        """
        import torch

        meter = meter or Meter()
        asked = _settled([*self._turns, Turn(question, self._seen(), "")])
        turns, prompt, room = self._fitted(asked, max_new_tokens)
        features = [each for turn in turns for each in turn.pictures]
        answer = Answer(
            self._model,
            self._processor,
            prompt,
            torch.stack(features) if features else picture_features(self._model, self._processor, ()),
            max_new_tokens=room,
            sampling=sampling,
            meter=meter,
        )
        self.forgotten = len(asked) - len(turns)
        self._turns, self._waiting = [*turns[:-1], replace(turns[-1], answer=answer)], []
        return answer

    def _seen(self) -> tuple[torch.Tensor, ...]:
        """The pictures before the next question, those that are new through the vision tower now."""
        if self._shown:
            self._waiting += picture_features(self._model, self._processor, self._shown)
            self._shown = []
        return tuple(self._waiting)

    def _fitted(self, turns: Sequence[Turn], max_new_tokens: int) -> tuple[list[Turn], Prompt, int]:
        """The turns that fit with an answer of `max_new_tokens`, their prompt, and the tokens of the answer.

        The pictures of a turn that is left out come before the next one's. The last turn stays and leaves an
        answer what it leaves.
        """
        empty = room(self._model, 0, max_new_tokens)
        kept = list(turns)
        while len((prompt := self._prompt(kept)).ids) + max_new_tokens > empty and len(kept) > 1:
            oldest, second, *rest = kept
            kept = [replace(second, pictures=oldest.pictures + second.pictures), *rest]
        return kept, prompt, min(max_new_tokens, room(self._model, len(prompt.ids)))

    def _prompt(self, turns: Sequence[Turn]) -> Prompt:
        messages: list[dict[str, Any]] = []
        for turn in turns:
            parts = [*({"type": "image"} for _ in turn.pictures), {"type": "text", "text": turn.question}]
            messages.append({"role": "user", "content": parts})
            messages.append({"role": "assistant", "content": turn.said})
        tokens = next((len(each) for turn in turns for each in turn.pictures), 0)
        return build_prompt(self._processor, messages[:-1], tokens)


def _settled(turns: Sequence[Turn]) -> list[Turn]:
    """Without turns, but for the last, that nothing was answered in; their pictures come before the next one's."""
    kept: list[Turn] = []
    pictures: tuple[torch.Tensor, ...] = ()
    for turn in turns[:-1]:
        pictures += turn.pictures
        if turn.said:
            kept.append(replace(turn, pictures=pictures))
            pictures = ()
    return [*kept, *(replace(turn, pictures=pictures + turn.pictures) for turn in turns[-1:])]
