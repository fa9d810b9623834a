"""Documents -> rows of equal length, without padding: the token ids in a memory-mapped file, rows cut from it.

`D` documents, `N` their tokens, `T` tokens of a row. The documents of an epoch, in its order, are one long line
of tokens that is cut every T tokens: a document may begin in one row and go on in the next, only the last row is
short, and no token is lost or seen twice. A document's first token is never supervised: it begins with nothing
before it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.chat import IMAGE_TOKEN
from minivlm.data.encoding import ChatEncoder
from minivlm.data.pairs import is_validation
from minivlm.data.texts import Document
from minivlm.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_ENCODED_TOGETHER = 512  # documents
_COUNTED_TOGETHER = 1 << 20  # tokens
_OF_TEXTS = 1  # so that the order is drawn apart from that of the text tasks


@dataclass(frozen=True)
class TextStore:
    """Encoded documents. What stays in memory is nine bytes a document."""

    tokens: npt.NDArray[np.unsignedinteger[Any]]  # (N,), mapped
    supervised: npt.NDArray[np.bool_]  # (N,), mapped
    offsets: npt.NDArray[np.int64]  # (D + 1,)
    validation: npt.NDArray[np.bool_]  # (D,), documents that are not trained on

    @classmethod
    def write(
        cls, documents: Iterable[Document], directory: Path, encoder: ChatEncoder, validation_fraction: float
    ) -> TextStore:
        """Encode the documents into two files in `directory`; UserError when none is left to train on."""
        import numpy as np

        dtype = np.dtype(np.uint16 if encoder.vocabulary <= 1 << 16 else np.uint32)
        offsets, validation = array("q", [0]), array("b")
        names = directory / "tokens.bin", directory / "supervised.bin"
        try:
            with names[0].open("wb") as tokens, names[1].open("wb") as supervised:
                remaining = iter(documents)
                while some := list(islice(remaining, _ENCODED_TOGETHER)):
                    for ids, mask in _encoded(some, encoder):
                        tokens.write(ids.astype(dtype).tobytes())
                        supervised.write(mask.tobytes())
                        offsets.append(offsets[-1] + len(ids))
                    validation.extend(is_validation(document.key, validation_fraction) for document in some)
        except OSError as error:
            raise UserError(f"{directory}: {error.strerror}; the tokens of base.texts are kept there") from None
        kept = np.array(validation, dtype=bool)
        if kept.all():
            raise UserError(
                f"base.texts: all {len(kept)} documents would be kept for validation and none trained on; "
                "lower base.validation_fraction or give it more texts"
            )
        return cls(
            np.memmap(names[0], dtype, "r"), np.memmap(names[1], bool, "r"), np.array(offsets, np.int64), kept
        )

    def training(self) -> npt.NDArray[np.int64]:
        """Indices of the documents to train on."""
        import numpy as np

        return np.flatnonzero(~self.validation)

    def held_back(self) -> npt.NDArray[np.int64]:
        """Indices of the documents kept for validation."""
        import numpy as np

        return np.flatnonzero(self.validation)

    def unigram_loss(self, vocabulary: int) -> float:
        """Nats a supervised token of the documents held back, under how often each occurs in the others.

        What a model gets that reads nothing: the yardstick of a validation loss. Counts are raised by one, so that
        a token never seen is not impossible. ValueError when no document is held back.
        """
        import numpy as np

        counts = [np.zeros(vocabulary, np.int64) for _ in range(2)]
        for total, documents in zip(counts, (self.training(), self.held_back()), strict=True):
            for ids, mask in PackedRows(self, documents, _COUNTED_TOGETHER):
                total += np.bincount(ids[mask], minlength=vocabulary)
        seen, asked = counts
        if not asked.any():
            raise ValueError("no document is held back")
        nats = np.log((seen.sum() + vocabulary) / (seen + 1))
        return float((asked * nats).sum() / asked.sum())


class PackedRows(Sequence[Any]):
    """Rows of T tokens, (ids, supervised) each, of some documents in the order given; the last may be shorter."""

    def __init__(self, store: TextStore, documents: npt.NDArray[np.integer], length: int) -> None:
        import numpy as np

        self._store, self._documents, self.length = store, documents, length
        self._ends = np.cumsum(np.diff(store.offsets)[documents])  # of each document, in the line of tokens
        self.tokens = int(self._ends[-1]) if len(documents) else 0

    def __len__(self) -> int:
        return -(-self.tokens // self.length)

    def names(self, row: int) -> tuple[str, ...]:
        """The documents that a row has tokens of: `texts:` and their number in base.texts, from 0."""
        import numpy as np

        start, stop = row * self.length, min((row + 1) * self.length, self.tokens)
        first, last = np.searchsorted(self._ends, [start, stop - 1], side="right")
        return tuple(f"texts:{number}" for number in self._documents[first : last + 1])

    def __getitem__(self, row: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        import numpy as np

        if not 0 <= row < len(self):
            raise IndexError(row)
        start, stop = row * self.length, min((row + 1) * self.length, self.tokens)
        stretches, at = [], int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            end = int(self._ends[at])
            last = int(self._store.offsets[self._documents[at] + 1])  # where the document ends in the store
            stretches.append(slice(last - (end - start), last - (end - min(end, stop))))
            start, at = end, at + 1
        ids = np.concatenate([self._store.tokens[stretch] for stretch in stretches]).astype(np.int64)
        return ids, np.concatenate([self._store.supervised[stretch] for stretch in stretches])


def shuffled(documents: npt.NDArray[np.int64], seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The documents in the order of an epoch; other neighbours share a row in every epoch."""
    import numpy as np

    return np.random.default_rng((seed, epoch, _OF_TEXTS)).permutation(documents)


def _encoded(
    documents: Sequence[Document], encoder: ChatEncoder
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:
    """(ids, supervised) of each: a text between two special tokens, a conversation by template and mask."""
    import numpy as np

    plain = iter(encoder.encode_plain([each.text for each in documents if each.text is not None]))
    chats = iter(encoder.encode_rows([_messages(each) for each in documents if each.text is None], image_tokens=1))
    for document in documents:
        if document.text is None:
            yield next(chats)
        else:
            ids = next(plain)
            yield ids, np.arange(len(ids)) > 0


def _messages(document: Document) -> list[dict[str, Any]]:
    """The turns for the template. Texts have no pictures: an `<image>` in them is what somebody typed."""
    return [
        {
            "role": turn.role,
            "content": [{"type": "text", "text": turn.content}] if IMAGE_TOKEN in turn.content else turn.content,
        }
        for turn in document.turns
    ]
