"""The image gap: how much worse the model predicts the answers when it sees another picture.

In nats for each supervised token. A model that ignores the picture has a gap of 0, however fluent it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from minivlm.evaluation.exchange import exchange

Row = TypeVar("Row")
# (rows, picture of each row) -> sum of negative log-likelihoods in nats, number of supervised tokens
Loss = Callable[[Sequence[Row], Sequence[int]], tuple[float, int]]


@dataclass(frozen=True)
class ImageGap:
    """Nats for each supervised token: with the right pictures, and how much more with exchanged ones.

    `shuffled` is the same difference between two exchanges: what the figure would be for a model without eyes.
    `rows` is how many were compared.
    """

    loss: float
    gap: float
    shuffled: float
    rows: int


def image_gap(
    rows: Sequence[Row], picture_of: Sequence[int], pictures: Sequence[str], loss: Loss[Row], seed: int
) -> ImageGap:
    """Compare the loss of `rows` with the right and with exchanged pictures.

    `picture_of[i]` is the position in `pictures` (distinct image hashes) of the picture of row i. The exchange
    moves pictures, not rows: all rows of one picture get the same other one. ValueError when nothing is
    supervised.
    """
    if len(rows) != len(picture_of):
        raise ValueError(f"{len(rows)} rows, but pictures for {len(picture_of)}")
    first, second = exchange(pictures, seed), exchange(pictures, seed + 1)
    right = _mean(loss(rows, picture_of))
    other = _mean(loss(rows, [first[picture] for picture in picture_of]))
    another = _mean(loss(rows, [second[picture] for picture in picture_of]))
    return ImageGap(loss=right, gap=other - right, shuffled=another - other, rows=len(rows))


def _mean(total: tuple[float, int]) -> float:
    nats, count = total
    if count == 0:
        raise ValueError("no supervised token in the held-out rows")
    return nats / count
