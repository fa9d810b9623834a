"""What the demo does when somebody asks, without the page: models, conversations, answers that can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from minivlm.errors import UserError
from minivlm.generation.conversation import Conversation
from minivlm.generation.loading import load_model
from minivlm.generation.opening import read_picture
from minivlm.generation.speed import Meter, duration
from minivlm.generation.streaming import Answer
from minivlm.generation.writing import Sampling


@dataclass(frozen=True)
class Choice:
    """A model that the page offers: its name there, its directory, and what it is asked by default."""

    name: str
    directory: Path
    question: str


class Reply(NamedTuple):
    """An answer as far as it has come; at the end `note`: how fast it was and what else is to be said."""

    text: str
    note: str | None = None


class DroppedError(Exception):
    """The conversation that a question belongs to was thrown away meanwhile."""


@dataclass
class _Asked:
    """A question that is being answered; `about`: picture and model."""

    about: tuple[Path | None, str]
    answer: Answer | None = None
    stopped: bool = False
    dropped: bool = False

    def stop(self) -> None:
        self.stopped = True  # also where the model is still being loaded
        if self.answer:
            self.answer.stop()


class Answers:
    """The models on offer, loaded when they are first asked, and the answers that are being written."""

    def __init__(self, choices: Sequence[Choice], device: str) -> None:
        self._choices = {choice.name: choice for choice in choices}
        self._device = device
        self._loaded: dict[str, tuple[Any, Any]] = {}
        self._loading = threading.Lock()
        self._asked: dict[str, _Asked] = {}

    def load(self, name: str) -> tuple[Any, Any]:
        """(model, processor) of a choice; UserError when it cannot be loaded."""
        with self._loading:
            if name not in self._loaded:
                self._loaded[name] = load_model(self._choices[name].directory, self._device)
            return self._loaded[name]

    def ask(
        self,
        session: str,
        name: str,
        picture: Path | None,
        turns: Sequence[tuple[str, str]],
        question: str,
        *,
        max_new_tokens: int,
        sampling: Sampling,
    ) -> Iterator[Reply]:
        """The answer to a question about a picture after `turns` of questions and answers, growing.

        `session`: who asks, for `stop` and `drop`. UserError for no picture, one that cannot be read, and
        a question that has no room; DroppedError, instead of anything else, once the conversation was dropped.
        """
        asked = self._asked[session] = _Asked((picture, name))
        try:
            conversation, meter = Conversation(*self.load(name)), Meter()
            conversation.show(opened(picture))
            for turn in turns:
                conversation.add(*turn)
            with conversation.ask(
                question, max_new_tokens=max_new_tokens, sampling=sampling, meter=meter
            ) as asked.answer:
                if asked.stopped:
                    asked.answer.stop()
                for _ in asked.answer:
                    if asked.dropped:
                        break
                    yield Reply(asked.answer.text)
            if not asked.dropped:
                yield Reply(asked.answer.text, " · ".join(_notes(asked.answer, conversation.forgotten)))
        except UserError:
            if not asked.dropped:
                raise
        finally:
            self._asked.pop(session, None)
        if asked.dropped:
            raise DroppedError

    def stop(self, session: str) -> None:
        """End the answer that is being written for somebody; nothing where none is."""
        if asked := self._asked.get(session):
            asked.stop()

    def drop(self, session: str, unless: tuple[Path | None, str] | None = None) -> None:
        """End it and say none of it any more, unless it is about this picture and of this model."""
        if (asked := self._asked.get(session)) and asked.about != unless:
            asked.dropped = True
            asked.stop()


def _notes(answer: Answer, forgotten: int) -> Iterator[str]:
    if answer.stopped:
        yield "已停止 stopped"
    if forgotten:
        yield f"最早的 {forgotten} 轮对话已放不下 · the oldest turns no longer fit"
    yield from _speed(answer.meter)


def _speed(meter: Meter) -> Iterator[str]:
    if meter.first_token_seconds is not None:
        yield f"首词 first token {duration(meter.first_token_seconds)}"
        yield f"{meter.tokens:,} token{'' if meter.tokens == 1 else 's'}"
    if meter.tokens_per_second is not None:
        yield f"{meter.tokens_per_second:,.0f} tokens/s"


def opened(picture: Path | None) -> Any:
    """The picture upright, as RGB; UserError, in both languages, when there is none or it cannot be read."""
    if picture is None:
        raise UserError("请先选择一张图片 · choose a picture first")
    read = read_picture(picture)
    if isinstance(read, str):
        raise UserError(f"无法读取这张图片 · this picture cannot be read: {read}")
    return read
