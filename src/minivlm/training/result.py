"""What a training returns: sums, losses, the history that becomes loss.csv, and the trained states."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from minivlm.errors import TrainingError

if TYPE_CHECKING:
    import torch


class Counted(Protocol):
    """The sizes of a micro-batch."""

    @property
    def count(self) -> int:
        """Terms of the loss."""

    @property
    def samples(self) -> int:
        """Rows."""

    @property
    def tokens(self) -> int:
        """Tokens without padding."""

    @property
    def padded_tokens(self) -> int:
        """Tokens with padding."""


@dataclass(frozen=True)
class HistoryRow:
    """One line of loss.csv. `loss` is the mean over the steps since the row before; `val_loss` where computed."""

    step: int
    loss: float
    val_loss: float | None
    learning_rate: float
    grad_norm: float
    samples: int
    tokens: int

    def metrics(self, seconds: float, money: float | None) -> dict[str, float]:
        """The row as the tracker gets it, `seconds` after the start, with throughput and money so far."""
        metrics = self.curve() | {
            "samples_per_second": self.samples / seconds,
            "tokens_per_second": self.tokens / seconds,
            "seconds": seconds,
        }
        if money is not None:
            metrics["money"] = money
        return metrics

    def curve(self) -> dict[str, float]:
        """What of it does not depend on time."""
        values = {"loss": self.loss, "learning_rate": self.learning_rate, "grad_norm": self.grad_norm}
        return values if self.val_loss is None else values | {"val_loss": self.val_loss}


@dataclass
class FitResult:
    """What a training did. States hold the trained parameters alone, on the CPU, by the objective's names.

    `train_loss`: nats a term over the last tenth of the steps; `val_loss`: the best one, at `best_step`. Without
    validation `val_loss` is None and the best state is the last. `seconds` holds validation, not the set-up;
    `device_seconds` is the same times the number of devices, which may change where a training is resumed.
    """

    steps: int = 0
    samples: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    micro_batches: int = 0
    seconds: float = 0.0
    device_seconds: float = 0.0
    grad_norm: float = math.nan
    train_loss: float = math.nan
    val_loss: float | None = None
    best_step: int = 0
    best_state: dict[str, torch.Tensor] = field(default_factory=dict)
    last_state: dict[str, torch.Tensor] = field(default_factory=dict)
    history: list[HistoryRow] = field(default_factory=list)
    precision: str = "fp32"
    device: str = "cpu"
    flops: int = 0  # these three: minivlm.training.operations
    validation_flops: int = 0
    optimizer_flops: int = 0

    def row_of(self, step: int) -> HistoryRow | None:
        """The last row of the history, where it is that of `step`."""
        return self.history[-1] if self.history and self.history[-1].step == step else None

    def add_step(
        self, samples: int, tokens: int, padded_tokens: int, micro_batches: int, *, grad_norm: float
    ) -> None:
        """Count a step and what its micro-batches hold."""
        self.steps += 1
        self.samples += samples
        self.tokens += tokens
        self.padded_tokens += padded_tokens
        self.micro_batches += micro_batches
        self.grad_norm = grad_norm

    def add_row(self, loss: float, val_loss: float | None, learning_rate: float) -> HistoryRow:
        """Add the row of the last step to the history."""
        row = HistoryRow(self.steps, loss, val_loss, learning_rate, self.grad_norm, self.samples, self.tokens)
        self.history.append(row)
        return row

    def take_time(self, seconds: float, devices: int) -> None:
        """Go on to `seconds` in all, the last of them on so many devices."""
        self.device_seconds += (seconds - self.seconds) * devices
        self.seconds = seconds

    def diverged(self, what: str, step: int | None = None) -> DivergedError:
        """The error that stops a training, with what was best until then; `step`: whose rows are at fault."""
        return DivergedError(f"{what}; training stopped", step, self.best_step, self.best_state)


class DivergedError(TrainingError):
    """A loss or gradient at `step`, or a validation loss (None), that is not finite; and what validated best
    before it (empty when nothing did)."""

    def __init__(
        self, message: str, step: int | None, best_step: int, best_state: dict[str, torch.Tensor]
    ) -> None:
        super().__init__(message)
        self.step, self.best_step, self.best_state = step, best_step, best_state

    def __reduce__(self) -> tuple[Any, ...]:
        # A training may run in a process of its own: its error comes back pickled.
        return type(self), (str(self), self.step, self.best_step, self.best_state)


class LossWindow:
    """Losses of the last steps, and of the steps since the last row of the history."""

    def __init__(self, length: int) -> None:
        self._last: deque[tuple[float, int]] = deque(maxlen=length)
        self._row: list[tuple[float, int]] = []

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> LossWindow:
        """The window that `state` was taken of."""
        window = cls(state["length"])
        for name in ("last", "row"):
            getattr(window, f"_{name}").extend((nats, count) for nats, count in state[name])
        return window

    def state(self) -> dict[str, Any]:
        """All of it, as plain numbers."""
        return {"length": self._last.maxlen, "last": list(self._last), "row": list(self._row)}

    def add(self, nats: float, count: int) -> None:
        """Take a step's sum of losses and its number of terms."""
        self._last.append((nats, count))
        self._row.append((nats, count))

    def mean(self) -> float:
        """Mean over the last steps, each term weighing the same."""
        return _mean(self._last)

    def since_row(self) -> float:
        """Mean over the steps since this was last asked."""
        mean = _mean(self._row)
        self._row.clear()
        return mean


def _mean(terms: Iterable[tuple[float, int]]) -> float:
    nats, counts = zip(*terms, strict=True)
    return math.fsum(nats) / sum(counts)
