"""What tokenizer and language model learn from: rows and texts -> strings, text tasks, what is held back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from minivlm.data.pairs import is_validation, linked_pictures, picture_key
from minivlm.data.rows import Row
from minivlm.data.shares import Purpose, is_chosen
from minivlm.data.texts import Document, Survey, TextFile, read_texts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from minivlm.data.encoding import ChatEncoder
    from minivlm.training.base_llm import TaskRow

TOKENIZER_BYTES = 1 << 23
"""Of the rows, and again of base.texts, the tokenizer learns from about so many: its trainer keeps every distinct
run of letters, some seventy bytes for each byte of prose. All rows of the drawn scenes are half of it."""


class Conversation(NamedTuple):
    """A row without its pictures, and the key of its first one: what another process is sent."""

    key: str
    row: Row
    linked: bool = False  # whether that picture is one of `linked_pictures`


def conversations(rows: Mapping[str, Iterable[Row]]) -> Iterator[Conversation]:
    """The rows of every split, in order."""
    linked = linked_pictures(rows.values())
    for split in rows.values():
        for row in split:
            key = picture_key(row)
            yield Conversation(key, row._replace(pictures=()), key in linked)


def tokenizer_texts(
    splits: Collection[Iterable[Row]],
    texts: Sequence[TextFile],
    found: Survey,
    most_bytes: int = TOKENIZER_BYTES,
) -> Iterator[str]:
    """What the tokenizer is trained on: what is said in the rows, then the texts; of each about `most_bytes`.

    Where there is more, hashes choose among rows and documents: the same ones whatever stands beside them. The
    rows are gone through twice.
    """
    size = sum(len(turn.content.encode()) for split in splits for row in split for turn in row.turns)
    for row in chain.from_iterable(splits):
        if _chosen(most_bytes, size, Document(None, tuple(row.turns))):
            yield from (turn.content for turn in row.turns)
    for document in read_texts(texts):
        if _chosen(most_bytes, found.bytes, document):
            yield from document.texts


def _chosen(most: int, size: int, document: Document) -> bool:
    """By its hash, whether it is validated on later or not."""
    return size <= most or is_chosen(bytes.fromhex(document.key), Purpose.TOKENIZER, most / size)


def task_rows(some: Sequence[Conversation], encoder: ChatEncoder, longest: int) -> list[TaskRow]:
    """A task for every conversation, in a model of `longest` positions.

    Half of the positions is for the conversation, a quarter for the sketch: of two texts, a slot for two tokens.
    """
    from minivlm.data.text_tasks import telling
    from minivlm.training.base_llm import TaskRow

    answers = _answers(some, encoder)
    encoded = encoder.encode_rows([[turn._asdict() for turn in each.row.turns] for each in some], image_tokens=1)
    most = longest // 2
    told = {key: telling([text[: longest // 4] for text in texts]) for key, texts in answers.items()}
    return [
        TaskRow(ids[:most], mask[:most], told[each.key], each.row.id)
        for (ids, mask), each in zip(encoded, some, strict=True)
    ]


def held_back(some: Sequence[Conversation], fraction: float) -> npt.NDArray[np.bool_]:
    """Which of them are kept for validation, (conversations,)."""
    import numpy as np

    return np.array([is_validation(each.key, fraction) and not each.linked for each in some], dtype=bool)


def _answers(some: Sequence[Conversation], encoder: ChatEncoder) -> dict[str, list[npt.NDArray[np.int64]]]:
    """Picture → token ids of every first answer about it."""
    found: dict[str, list[str]] = defaultdict(list)
    for key, row, _ in some:
        found[key] += [turn.content for turn in row.turns if turn.role == "assistant"][:1]
    texts = [text for of_picture in found.values() for text in of_picture]
    encoded = iter(encoder.encode_plain(texts, framed=False))
    return {key: [ids for _ in of_picture if len(ids := next(encoded))] for key, of_picture in found.items()}
