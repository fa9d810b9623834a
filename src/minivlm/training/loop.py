"""The one training loop, on Accelerate: vision tower, language model, pretrain and sft all go through `fit`.

An objective is a module that maps a batch to the *sum* of its losses; `batch.count` is the number of terms. A step
is a list of micro-batches, and its loss is the sum over all of them divided by all their terms: accumulation
changes nothing but the memory it takes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, Self

from minivlm.device import resolve_device, resolve_precision
from minivlm.training.optimizer import adamw, copy_state, trained_parameters
from minivlm.training.progress import TrainingProgress
from minivlm.training.result import Counted, FitResult, HistoryRow, LossWindow
from minivlm.training.schedule import evenly_spaced
from minivlm.training.schedule import learning_rate as rate_of

if TYPE_CHECKING:
    from torch import nn

    from minivlm.config import Precision

TRAIN_LOSS_SHARE = 0.1
"""`train_loss` is the mean over this last share of the steps: one step's loss is noise."""


class Batch(Counted, Protocol):
    """What the loop needs of a micro-batch; everything else is between batch and objective."""

    def to(self, device: Any) -> Self:
        """The batch on a device."""


def fit(
    objective: nn.Module,
    steps: Iterable[Sequence[Batch]],
    *,
    total_steps: int,
    learning_rate: float,
    min_learning_rate_ratio: float,
    warmup_ratio: float,
    weight_decay: float,
    max_grad_norm: float,
    precision: Precision,
    device: str,
    validate: Callable[[], float] | None,
    validations: int,
    log_steps: int,
    on_log: Callable[[int, dict[str, float]], None],
    label: str,
    price_per_hour: float | None,
    currency: str = "",
    optimizer: Callable[[nn.Module, float], Any] = adamw,
) -> FitResult:
    """Train what requires a gradient in `objective` for `total_steps` steps; it is left with the last weights.

    `validate()` returns the validation loss (see `mean_loss`); it runs in the training's precision, `validations`
    times at even distances, the last time after the last step. `optimizer(objective, weight_decay)` makes the
    optimizer, whose learning rate the loop sets. `on_log(step, metrics)` is called for every row of
    the history. ValueError when `steps` ends early. DivergedError (a TrainingError) when a loss or a gradient norm
    is not finite, or a step has no term at all: that step is not taken.
    """
    device = resolve_device(device)
    result = FitResult(precision=resolve_precision(precision, device), device=device)
    window = LossWindow(max(1, math.ceil(TRAIN_LOSS_SHARE * total_steps)))
    validated = evenly_spaced(total_steps, validations) if validate else frozenset()
    with (
        _accelerator(device, result.precision) as accelerator,
        TrainingProgress(label, total_steps, price_per_hour, currency) as progress,
    ):
        objective.to(accelerator.device).train()
        prepared = accelerator.prepare(optimizer(objective, weight_decay))
        start = time.monotonic()
        for step, batches in zip(range(1, total_steps + 1), steps, strict=False):
            rate = rate_of(step, total_steps, learning_rate, warmup_ratio, min_learning_rate_ratio)
            nats, count, norm = _gradients(objective, batches, accelerator, max_grad_norm)
            where = f"{label}: step {step}, learning rate {rate:.3g}"
            if not (math.isfinite(nats) and math.isfinite(norm)):
                raise result.diverged(f"{where}: loss {nats / max(count, 1):.4g}, gradient norm {norm:.4g}")
            for group in prepared.param_groups:
                group["lr"] = rate
            prepared.step()
            prepared.zero_grad(set_to_none=True)

            result.add_step(batches)
            window.add(nats, count)
            progress.step(step, nats / count, result.samples)
            val_loss = None
            if validate and step in validated:
                with accelerator.autocast():
                    val_loss = validate()
                if not math.isfinite(val_loss):
                    raise result.diverged(f"{where}: validation loss {val_loss:.4g}")
                if result.val_loss is None or val_loss < result.val_loss:
                    result.val_loss, result.best_step = val_loss, step
                    result.best_state = copy_state(objective)
            if step % log_steps == 0 or step in (1, total_steps) or val_loss is not None:
                row = HistoryRow(step, window.since_row(), val_loss, rate, norm, result.samples, result.tokens)
                result.history.append(row)
                on_log(step, row.metrics(time.monotonic() - start, price_per_hour))
        result.seconds = time.monotonic() - start
    if result.steps < total_steps:
        raise ValueError(f"{label}: data for {result.steps} of {total_steps} steps")
    result.train_loss = window.mean()
    result.last_state = copy_state(objective)
    if validate is None:
        result.best_step, result.best_state = result.steps, result.last_state
    return result


def _gradients(
    objective: nn.Module, batches: Sequence[Batch], accelerator: Any, max_grad_norm: float
) -> tuple[float, int, float]:
    """Gradients of the mean over all terms of the micro-batches, clipped: (sum of losses, terms, norm before)."""
    import torch

    count = sum(batch.count for batch in batches)
    if count == 0:
        return math.nan, 0, math.nan
    total = torch.zeros((), device=accelerator.device)
    for batch in batches:
        with accelerator.autocast():
            loss = objective(batch.to(accelerator.device))
        accelerator.backward(loss / count)
        total += loss.detach()
    norm = accelerator.clip_grad_norm_(trained_parameters(objective).values(), max_grad_norm)
    # The one point of a step at which the CPU waits for the device.
    nats, grad_norm = torch.stack((total, norm)).tolist()
    return nats, count, grad_norm


def mean_loss(objective: nn.Module, batches: Iterable[Batch]) -> float:
    """The objective's loss a term over all batches, without gradients; summed in float64.

    ValueError when the batches have no term.
    """
    import torch

    device = next(objective.parameters()).device
    training = objective.training
    objective.eval()
    nats, count = torch.zeros((), dtype=torch.float64, device=device), 0
    with torch.no_grad():
        for batch in batches:
            nats += objective(batch.to(device))
            count += batch.count
    objective.train(training)
    if count == 0:
        raise ValueError("nothing to validate on")
    return float(nats) / count


@contextmanager
def _accelerator(device: str, precision: str) -> Iterator[Any]:
    """An Accelerator for one training; its global state is taken down, so that the next may choose otherwise."""
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    try:
        yield Accelerator(cpu=device == "cpu", mixed_precision="bf16" if precision == "bf16" else "no")
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
