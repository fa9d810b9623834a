"""What the base language model reads in an epoch: batches of text tasks and batches of packed texts, in one order.

Text tasks are made of the rows' conversations (data/text_tasks.py), packed texts of base.texts (data/packing.py).
Either may be missing. Both advance at one pace, measured in tokens, so that each is spread over the whole epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from minivlm.data.packing import PackedRows, TextStore, shuffled
from minivlm.data.text_tasks import WIDEST_SLOT, TextTask, TextTaskBatch, collate_tasks


class PackedTexts(NamedTuple):
    """Encoded documents and the tokens of a row that they are packed into."""

    store: TextStore
    length: int


class TextBatches:
    """Packed rows as batches of at most `batch_tokens`, each made when it is asked for: a text has no sketch."""

    def __init__(self, rows: PackedRows, batch_tokens: int, pad_token_id: int, share: float = 1.0) -> None:
        """`share`: of the rows, the first ones; at least one."""
        taken = min(len(rows), max(1, round(share * len(rows))))
        together = max(1, batch_tokens // rows.length)
        self._rows, self._pad_token_id = rows, pad_token_id
        self._plan = [range(i, min(i + together, taken)) for i in range(0, taken, together)]
        self.sizes = [min(rows.tokens, each.stop * rows.length) - each.start * rows.length for each in self._plan]

    def __len__(self) -> int:
        return len(self._plan)

    def __iter__(self) -> Iterator[TextTaskBatch]:
        import numpy as np

        none = np.empty((0, WIDEST_SLOT), dtype=np.int64)
        for chosen in self._plan:
            tasks = [TextTask(*self._rows[i], none, self._rows.names(i)) for i in chosen]
            yield collate_tasks(tasks, self._pad_token_id, self._rows.length)

    @classmethod
    def of_epoch(
        cls, texts: PackedTexts, epoch: int, *, batch_tokens: int, pad_token_id: int, seed: int, share: float
    ) -> TextBatches:
        """The documents to train on, shuffled anew in every epoch."""
        documents = shuffled(texts.store.training(), seed, epoch)
        return cls(PackedRows(texts.store, documents, texts.length), batch_tokens, pad_token_id, share)

    @classmethod
    def held_back(cls, texts: PackedTexts, *, batch_tokens: int, pad_token_id: int) -> TextBatches:
        """The documents kept for validation, in the order of the files."""
        rows = PackedRows(texts.store, texts.store.held_back(), texts.length)
        return cls(rows, batch_tokens, pad_token_id)


class Epoch:
    """Both kinds in one order; `texts` may be None."""

    def __init__(self, tasks: Sequence[TextTaskBatch], texts: TextBatches | None) -> None:
        self._tasks, self._texts = tasks, texts

    def __len__(self) -> int:
        return len(self._tasks) + (len(self._texts) if self._texts else 0)

    def __iter__(self) -> Iterator[TextTaskBatch]:
        texts = self._texts
        kinds = iter(self._tasks), iter(texts or ())
        for kind in interleaved([batch.tokens for batch in self._tasks], texts.sizes if texts else []):
            yield next(kinds[kind])


def interleaved(first: Sequence[int], second: Sequence[int]) -> Iterator[int]:
    """0 or 1 for each batch, given the batches' tokens of two kinds: the one that is behind comes next."""
    sizes = first, second
    total = sum(first), sum(second)
    done, at = [0, 0], [0, 0]
    for _ in range(len(first) + len(second)):
        behind = done[0] * total[1] <= done[1] * total[0]
        kind = 0 if at[0] < len(first) and (behind or at[1] == len(second)) else 1
        done[kind] += sizes[kind][at[kind]]
        at[kind] += 1
        yield kind
