"""What a training stage will compute in all: steps, tokens, operations.

Exact where the token store of the present parameters is there: the very batches that the stage will take. Else
from rows and lengths that are assumed or stated, with a range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from minivlm.config.training import Training

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from minivlm.data.store import TokenStore
    from minivlm.training.operations import OperationCounter
    from minivlm.training.steps import Steps

SUPERVISED_SHARE = 0.75
"""Of a row's tokens beside the picture's, where nothing is known: the answers; the rest is question and frame."""
_SAMPLE = 20_000  # rows that are drawn to see how lengths fill batches


class Shape(NamedTuple):
    """A micro-batch: rows, padded length, positions with logits, distinct pictures, tokens without padding."""

    rows: int
    length: int
    positions: int
    pictures: int
    tokens: int

    @property
    def padded(self) -> int:
        """Tokens with padding."""
        return self.rows * self.length


@dataclass(frozen=True)
class Lengths:
    """Tokens of a row on average, those of its picture included, and where the figures are from."""

    mean: float
    low: float
    high: float
    source: str


@dataclass(frozen=True)
class Work:
    """The whole of a stage; `batches`: micro-batches of all its steps.

    `low` and `high`: factors of the operations that the range of the lengths gives.
    `exact`: counted from the token store, as the stage itself will count.
    """

    rows: int
    validation_rows: int
    steps: int
    batches: int
    samples: int
    tokens: int
    padded_tokens: int
    flops: int
    validation_flops: int
    source: str
    exact: bool
    low: float = 1.0
    high: float = 1.0
    pictures: int = 0  # these two: of filling the feature cache, where there is one
    fill_flops: int = 0


def planned_steps(store: TokenStore, section: Training, seed: int) -> Steps:
    """The steps that a stage takes over its token store."""
    from minivlm.training.steps import plan_steps

    rows = store.training_rows()
    return plan_steps(
        rows,
        store.lengths[rows],
        batch_tokens=section.batch_tokens,
        accumulation=section.accumulation,
        epochs=section.epochs,
        seed=seed,
    )


def shape_of(store: TokenStore, rows: npt.NDArray[np.integer], batch_tokens: int) -> Shape:
    """The shape of some rows as a micro-batch; no row supervises its first token."""
    import numpy as np

    from minivlm.data.batch_plan import padded_count, padded_length

    lengths = store.lengths_of(rows)
    return Shape(
        rows=len(rows),
        length=padded_length(int(lengths.max()), batch_tokens),
        positions=padded_count(int(store.supervised[rows].sum())),
        pictures=len(np.unique(store.pictures_of(rows))),
        tokens=int(lengths.sum()),
    )


def work_of_store(
    store: TokenStore, section: Training, seed: int, counter: OperationCounter, source: str, cached: bool = False
) -> Work:
    """What a stage will compute over its token store, exactly; `cached`: features are read, not computed."""
    from minivlm.data.batch_plan import plan_batches
    from minivlm.training.schedule import evenly_spaced

    steps = planned_steps(store, section, seed)
    batches = [shape_of(store, rows, section.batch_tokens) for rows in steps.batches]
    kept = store.validation_rows()
    checks = plan_batches(store.lengths[kept], section.batch_tokens, seed, 0)
    validated = [shape_of(store, kept[rows], section.batch_tokens) for rows in checks]
    pictures = len(store.distinct_pictures()) if cached else 0
    passes = len(evenly_spaced(len(steps), section.validations)) if len(kept) else 0
    return Work(
        rows=len(store.training_rows()),
        validation_rows=len(kept),
        steps=len(steps),
        batches=len(batches),
        samples=sum(batch.rows for batch in batches),
        tokens=sum(batch.tokens for batch in batches),
        padded_tokens=sum(batch.padded for batch in batches),
        flops=sum(flops_of(counter, batch, cached=cached) for batch in batches),
        validation_flops=passes * sum(flops_of(counter, batch, False, cached) for batch in validated),
        source=source,
        exact=True,
        pictures=pictures,
        fill_flops=tower_flops(counter, pictures),
    )


def work_assumed(
    rows: int, lengths: Lengths, image_tokens: int, longest: int, validation_fraction: float,
    section: Training, seed: int, counter: OperationCounter, source: str, cached: bool = False,
) -> Work:  # fmt: skip
    """What a stage would compute over `rows` rows of one picture each, of at most `longest` tokens."""
    kept = round(rows * validation_fraction)
    sizes = {"rows": max(1, rows - kept), "image_tokens": image_tokens, "longest": longest}
    middle, low, high = (
        _epoch(mean, section, seed, counter, cached, **sizes) for mean in (lengths.mean, lengths.low, lengths.high)
    )
    steps = max(1, math.floor(section.epochs * math.ceil(middle["batches"] / section.accumulation) + 1e-9))
    share = section.epochs
    return Work(
        rows=sizes["rows"],
        validation_rows=kept,
        steps=steps,
        batches=max(steps, round(share * middle["batches"])),
        samples=round(share * sizes["rows"]),
        tokens=round(share * middle["tokens"]),
        padded_tokens=round(share * middle["padded"]),
        flops=round(share * middle["flops"]),
        validation_flops=round(section.validations * middle["forward"] * kept / sizes["rows"]),
        source=source,
        exact=False,
        low=low["flops"] / middle["flops"],
        high=high["flops"] / middle["flops"],
        pictures=rows if cached else 0,
        fill_flops=tower_flops(counter, rows if cached else 0),
    )


def draw_lengths(mean: float, count: int, image_tokens: int, longest: int, seed: int) -> npt.NDArray[np.int64]:
    """(count,) lengths of rows of `mean` tokens: the text beside a picture spreads as a gamma distribution of
    shape 4 does, whose deviation is half its mean."""
    import numpy as np

    text = np.random.default_rng(seed).gamma(4.0, max(1.0, mean - image_tokens) / 4.0, count)
    return np.clip(image_tokens + np.rint(text), image_tokens + 2, longest).astype(np.int64)


def flops_of(counter: OperationCounter, shape: Shape, backward: bool = True, cached: bool = False) -> int:
    """Operations of a micro-batch."""
    return counter.shapes(shape.rows, shape.length, shape.positions, shape.pictures, backward, cached)


def tower_flops(counter: OperationCounter, pictures: int) -> int:
    """Operations of the tower over some pictures: what is not computed where its features are read."""
    computed, read = (counter.shapes(1, 1, 0, pictures, False, cached) for cached in (False, True))
    return computed - read


def _epoch(
    mean: float, section: Training, seed: int, counter: OperationCounter, cached: bool, *, rows: int,
    image_tokens: int, longest: int,
) -> dict[str, Any]:  # fmt: skip
    """An epoch's batches, tokens and operations, from a sample of the rows."""
    from minivlm.data.batch_plan import padded_count, padded_length, plan_batches

    drawn = draw_lengths(mean, min(rows, _SAMPLE), image_tokens, min(longest, section.batch_tokens), seed)
    shapes = []
    for batch in plan_batches(drawn, section.batch_tokens, seed, 0):
        lengths = drawn[batch]
        supervised = padded_count(round(SUPERVISED_SHARE * float((lengths - image_tokens).sum())))
        length = padded_length(int(lengths.max()), section.batch_tokens)
        shapes.append(Shape(len(batch), length, supervised, len(batch), int(lengths.sum())))
    scale = rows / len(drawn)
    return {
        "batches": scale * len(shapes),
        "tokens": scale * sum(shape.tokens for shape in shapes),
        "padded": scale * sum(shape.padded for shape in shapes),
        "flops": scale * sum(flops_of(counter, shape, True, cached) for shape in shapes),
        "forward": scale * sum(flops_of(counter, shape, False, cached) for shape in shapes),
    }
