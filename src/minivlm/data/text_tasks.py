"""Text tasks whose answer depends on the prompt: what a language model learns before it has seen a picture.

A model that has only seen captions cannot be conditioned, and a projector has nothing to write to. So each task
is a conversation of the training rows in which the picture is replaced by a *sketch in words*: a run of slots,
each holding a few neighbouring tokens of a text about that picture, in random order. A slot's embedding is the
sum of its tokens' embeddings over the root of their number: what a linear projector can later make of a patch.

`K` slots of a sketch, `W` tokens of a slot at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from minivlm.data.batch_plan import next_tokens, padded_length

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

WIDEST_SLOT = 5  # tokens
LEFT_OUT = 0.1  # share of the spans that a sketch leaves out
EXCHANGED = 0.9  # share of the tasks in which some words are exchanged
MOST_EXCHANGED = 3  # of a task


@dataclass(frozen=True)
class TextTask:
    """A conversation with a sketch in the place of its picture."""

    ids: npt.NDArray[np.int64]  # (T,), the image token once for each slot
    mask: npt.NDArray[np.bool_]  # (T,), supervised tokens
    slots: npt.NDArray[np.int64]  # (K, W), padded with -1
    names: tuple[str, ...] = ()  # the rows or texts that it is made of, for who has to look at them


def sketch(sources: Sequence[npt.NDArray[np.int64]], random: np.random.Generator) -> npt.NDArray[np.int64]:
    """(K, W): one or two of the texts about a picture, cut into spans of two to W tokens, in random order.

    A tenth of the spans is left out, so that the model also learns to go on where a sketch is silent; -1 fills up.
    """
    import numpy as np

    chosen = random.choice(len(sources), size=min(len(sources), int(random.integers(1, 3))), replace=False)
    spans = []
    for source in (sources[int(i)] for i in chosen):
        start = 0
        while start < len(source):
            width = int(random.integers(2, WIDEST_SLOT + 1))
            spans.append(source[start : start + width])
            start += width
    kept = [span for span in spans if random.random() >= LEFT_OUT] or spans
    result = np.full((len(kept), WIDEST_SLOT), -1, dtype=np.int64)
    for slot, i in enumerate(random.permutation(len(kept))):
        result[slot, : len(kept[i])] = kept[i]
    return result


@dataclass(frozen=True)
class TextTaskBatch:
    """Tensors of a batch, padded on the right."""

    input_ids: torch.Tensor  # (B, T) int64
    slots: torch.Tensor  # (K of all rows, W) int64, -1 where a slot has no token, in reading order
    supervised: torch.Tensor  # (S,) int64 into the flat (B * T): positions whose next token is supervised
    targets: torch.Tensor  # (S,) int64; IGNORED beyond the first `count`
    tokens: int  # without padding
    count: int  # supervised tokens
    names: tuple[str, ...] = ()  # the rows and texts in it

    @property
    def samples(self) -> int:
        """Rows."""
        return int(self.input_ids.shape[0])

    @property
    def padded_tokens(self) -> int:
        """Tokens computed, padding included."""
        return int(self.input_ids.numel())

    @property
    def logit_positions(self) -> int:
        """Positions that logits are computed at, S."""
        return int(self.targets.numel())

    def to(self, device: Any) -> TextTaskBatch:
        """The same batch on a device."""
        names = [field.name for field in fields(self) if field.name not in ("tokens", "count", "names")]
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def collate_tasks(tasks: Sequence[TextTask], pad_token_id: int, most: int | None = None) -> TextTaskBatch:
    """Tasks as one batch; none is padded beyond `most` tokens."""
    import numpy as np
    import torch

    length = padded_length(max(len(task.ids) for task in tasks), most)
    input_ids = np.full((len(tasks), length), pad_token_id, dtype=np.int64)
    is_supervised = np.zeros((len(tasks), length), dtype=bool)
    for i, task in enumerate(tasks):
        input_ids[i, : len(task.ids)] = task.ids
        is_supervised[i, : len(task.ids)] = task.mask
    supervised, targets, count = next_tokens(input_ids, is_supervised)
    return TextTaskBatch(
        input_ids=torch.from_numpy(input_ids),
        slots=torch.from_numpy(np.concatenate([task.slots for task in tasks])),
        supervised=torch.from_numpy(supervised),
        targets=torch.from_numpy(targets),
        tokens=sum(len(task.ids) for task in tasks),
        count=count,
        names=tuple(name for task in tasks for name in task.names),
    )


def make_task(
    ids: npt.NDArray[np.int64],
    mask: npt.NDArray[np.bool_],
    sources: Sequence[npt.NDArray[np.int64]],
    image_token_id: int,
    random: np.random.Generator,
) -> TextTask:
    """The tokens of a conversation with a sketch of `sources` where its image token stands.

    Of several pictures each has its part of the one sketch: what is told is told of all of them together.
    """
    import numpy as np

    slots = sketch(sources, random)
    is_image = ids == image_token_id
    counts = np.ones(len(ids), dtype=np.int64)  # how often each token is kept
    counts[is_image] = [len(part) for part in np.array_split(slots, np.count_nonzero(is_image))]
    return TextTask(np.repeat(ids, counts), np.repeat(mask & ~is_image, counts), slots)


class Exchanges:
    """What may stand in the place of a token: other tokens that texts have between the same neighbours.

    红 and 蓝 both stand between 片 and 色, 三 and 两 before 座: nobody has to say what a colour or a numeral is.
    """

    def __init__(self, texts: Iterable[npt.NDArray[np.int64]], fixed: Iterable[int] = ()) -> None:
        """Token ids of texts; `fixed` tokens are neither exchanged nor put in another's place."""
        import numpy as np

        runs = [np.stack([text[:-2], text[2:], text[1:-1]], axis=1) for text in texts if len(text) > 2]
        seen = np.unique(np.concatenate([*runs, np.zeros((0, 3), np.int64)]), axis=0)  # before, after, token
        seen = seen[~np.isin(seen[:, 2], list(fixed))]
        is_first = np.any(np.diff(seen[:, :2], axis=0, prepend=-1), axis=1)
        place = np.cumsum(is_first) - 1  # (N,), the number of each line's neighbourhood
        self._tokens, self._first = seen[:, 2], np.flatnonzero(is_first)[place]
        self._by_token = np.argsort(self._tokens, kind="stable")
        self._sorted = self._tokens[self._by_token]
        others = np.bincount(place)[place] - 1  # (N,), tokens seen in the same place beside this one
        self._choices = np.concatenate([[0], others[self._by_token].cumsum()])  # (N + 1,), before each line

    def draw(self, token: int, random: np.random.Generator) -> int:
        """Another token, the likelier the more places it shares; the token itself where it shares none."""
        lines = self._sorted.searchsorted([token, token + 1])
        least, most = self._choices[lines]
        if least == most:
            return token
        choice = random.integers(least, most)
        at = self._choices.searchsorted(choice, side="right") - 1
        line = self._by_token[at]
        other = self._first[line] + choice - self._choices[at]
        return int(self._tokens[other + (other >= line)])


def exchange_words(task: TextTask, exchanges: Exchanges, random: np.random.Generator) -> TextTask:
    """In most tasks, one to three tokens of the sketch exchanged for others, wherever they stand.

    What usually goes together is then no guide to the answer: the model learns to say what the sketch says, also
    where it is something that it has never read.
    """
    import numpy as np

    if random.random() >= EXCHANGED or not len(task.slots):
        return task
    present = np.unique(task.slots[task.slots >= 0])
    number = min(len(present), int(random.integers(1, MOST_EXCHANGED + 1)))
    old = random.choice(present, size=number, replace=False)
    table = np.arange(max(task.ids.max(), present.max()) + 1)
    table[old] = [exchanges.draw(int(token), random) for token in old]
    return replace(task, ids=table[task.ids], slots=np.where(task.slots >= 0, table[task.slots], -1))


def telling(texts: Sequence[npt.NDArray[np.int64]]) -> list[npt.NDArray[np.int64]]:
    """The texts about a picture that say much: at least a third as long as the longest ("四只。" says little)."""
    longest = max(map(len, texts), default=0)
    return [text for text in texts if 3 * len(text) >= longest]
