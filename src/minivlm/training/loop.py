"""The one training loop, on Accelerate: vision tower, language model, pretrain and sft all go through `fit`.

An objective is a module that maps a batch to the *sum* of its losses; `batch.count` is the number of terms. The
loss depends on every trained parameter, whatever the batch holds: processes wait for each other's gradients. A
step is a list of micro-batches, and its loss is the sum over all of them divided by all their terms: accumulation
changes nothing but the memory it takes, and so do several processes (see `distributed`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, Self

from minivlm.device import resolve_device, resolve_precision
from minivlm.errors import UserError
from minivlm.training.distributed import ALONE, Processes, Repeat, check_launch
from minivlm.training.optimizer import adamw, trained_parameters
from minivlm.training.progress import TrainingProgress
from minivlm.training.result import Counted, FitResult, HistoryRow, LossWindow
from minivlm.training.schedule import evenly_spaced
from minivlm.training.schedule import learning_rate as rate_of

if TYPE_CHECKING:
    from torch import nn

    from minivlm.config import Precision
    from minivlm.training.resume import TrainingState

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
    devices: int = 1,
    currency: str = "",
    optimizer: Callable[[nn.Module, float], Any] = adamw,
    processes: Processes = ALONE,
    sharded: Sequence[nn.Module] | None = None,
    resume: TrainingState | None = None,
    save_every: float | None = None,
    on_save: Callable[[TrainingState], None] | None = None,
) -> FitResult:
    """Train what requires a gradient in `objective` for `total_steps` steps; it is left with the last weights.

    `validate()` returns the validation loss (see `mean_loss`); it runs in the training's precision, `validations`
    times at even distances, the last time after the last step. `optimizer(objective, weight_decay)` makes the
    optimizer, whose learning rate the loop sets. `on_log(step, metrics)` is called for every row of the history;
    the price is that of one of the `devices`. ValueError when `steps` ends early. DivergedError (a TrainingError)
    when a loss or a gradient norm is not finite, or a step has no term at all: that step is not taken.

    Of several `processes` each calls this with its share of every step and gets the same losses; `sharded`: see
    `in_company`. `on_save(state)` is called in all of them when `save_every` seconds have passed since the last
    time (0: after every step). A training given that state as `resume`, and the steps after `resume.result.steps`,
    goes on as this one does.
    """
    from minivlm.training.distributed_model import in_company
    from minivlm.training.resume import put_back, take_state, trained_state

    device = resolve_device(device)
    result = resume.result if resume else FitResult()
    result.precision, result.device = resolve_precision(precision, device), device
    window = resume.window if resume else LossWindow(max(1, math.ceil(TRAIN_LOSS_SHARE * total_steps)))
    validated = evenly_spaced(total_steps, validations) if validate else frozenset()
    spent = result.seconds
    with (
        _accelerator(device, result.precision) as accelerator,
        TrainingProgress(
            label,
            total_steps,
            price_per_hour,
            currency,
            devices=devices,
            spent=spent,
            device_seconds=result.device_seconds,
            silent=not processes.is_main,
        ) as progress,
    ):
        objective.to(accelerator.device).train()
        module = in_company(objective, accelerator.device, processes, sharded)
        trained = list(trained_parameters(objective).values())  # to look for them takes a millisecond
        prepared = accelerator.prepare(optimizer(objective, weight_decay))
        if resume:
            put_back(resume, objective, prepared)
        stream = iter(steps)
        start = saved = time.monotonic()
        while result.steps < total_steps:
            with processes.together():
                batches = next(stream, None)
            if batches is None:
                break
            step = result.steps + 1
            rate = rate_of(step, total_steps, learning_rate, warmup_ratio, min_learning_rate_ratio)
            is_due = save_every is not None and processes.is_main and time.monotonic() - saved >= save_every
            count, *seen, save_now = processes.sum(*_sizes(batches), is_due)
            nats, norm = _gradients(module, trained, batches, int(count), accelerator, processes, max_grad_norm)
            where = f"{label}: step {step}, learning rate {rate:.3g}"
            if not (math.isfinite(nats) and math.isfinite(norm)):
                raise result.diverged(f"{where}: loss {nats / max(count, 1):.4g}, gradient norm {norm:.4g}")
            for group in prepared.param_groups:
                group["lr"] = rate
            prepared.step()
            for parameter in trained:
                parameter.grad = None

            result.add_step(*seen)
            window.add(nats, int(count))
            progress.step(step, nats / count, result.samples)
            val_loss = None
            if validate and step in validated:
                with accelerator.autocast():
                    val_loss = validate()
                if not math.isfinite(val_loss):
                    raise result.diverged(f"{where}: validation loss {val_loss:.4g}")
                if result.val_loss is None or val_loss < result.val_loss:
                    result.val_loss, result.best_step = val_loss, step
                    result.best_state = trained_state(objective)
            result.take_time(spent + time.monotonic() - start, devices)
            if step % log_steps == 0 or step in (1, total_steps) or val_loss is not None:
                row = HistoryRow(step, window.since_row(), val_loss, rate, norm, result.samples, result.tokens)
                result.history.append(row)
                paid = None if price_per_hour is None else price_per_hour * result.device_seconds / 3600
                on_log(step, row.metrics(result.seconds, paid))
            if save_now and on_save:
                on_save(take_state(objective, prepared, result, window))
                saved = time.monotonic()
        result.take_time(spent + time.monotonic() - start, devices)
    if result.steps < total_steps:
        raise ValueError(f"{label}: data for {result.steps} of {total_steps} steps")
    result.train_loss = window.mean()
    result.last_state = trained_state(objective)
    if validate is None:
        result.best_step, result.best_state = result.steps, result.last_state
    return result


def _sizes(batches: Sequence[Batch]) -> tuple[int, ...]:
    """Terms, samples, tokens, tokens with padding, of all micro-batches, and how many these are."""
    counted = ("count", "samples", "tokens", "padded_tokens")
    terms, samples, tokens, padded = (sum(getattr(batch, name) for batch in batches) for name in counted)
    return terms, samples, tokens, padded, sum(not isinstance(batch, Repeat) for batch in batches)


def _gradients(
    module: nn.Module,
    trained: Sequence[nn.Parameter],
    batches: Sequence[Batch],
    count: int,
    accelerator: Any,
    processes: Processes,
    max_grad_norm: float,
) -> tuple[float, float]:
    """Gradients of the mean over the `count` terms of all processes, clipped: (sum of losses, norm before)."""
    import torch

    from minivlm.training.distributed_model import whole

    if count == 0:
        return math.nan, math.nan
    total = torch.zeros((), device=accelerator.device)
    for number, batch in enumerate(batches, 1):
        # Gradients are exchanged once a step, in the backward pass of the last micro-batch.
        with accelerator.no_sync(module) if number < len(batches) else nullcontext():
            with accelerator.autocast():
                loss = module(batch.to(accelerator.device))
            accelerator.backward(loss * processes.size / count)  # the exchange divides by the processes
        total += loss.detach()
    norm = accelerator.clip_grad_norm_(trained, max_grad_norm)
    # The one point of a step at which the CPU waits for the device: a step whose loss is not finite is not taken.
    # So the optimizer's kernels are launched after it, to a device that has nothing left to do.
    nats, grad_norm = torch.stack((total, whole(norm))).tolist()
    return processes.sum(nats)[0], grad_norm


def mean_loss(objective: nn.Module, batches: Iterable[Batch], processes: Processes = ALONE) -> float:
    """The objective's loss a term over all batches, without gradients; summed in float64.

    Of several processes each brings its share of the batches, all of them equally many. ValueError when the
    batches have no term.
    """
    import torch

    device = next(objective.parameters()).device
    training = objective.training
    objective.eval()
    nats, count = torch.zeros((), dtype=torch.float64, device=device), 0
    stream = iter(batches)
    with torch.no_grad():
        while True:
            # Around the loading alone: in the forward pass of a sharded model the processes wait for each other.
            with processes.together():
                batch = next(stream, None)
            if batch is None:
                break
            if isinstance(batch, Repeat):
                objective(batch.to(device).batch)  # a sharded model is put together by all processes
                continue
            nats += objective(batch.to(device))
            count += batch.count
    objective.train(training)
    total, terms = processes.sum(float(nats), count)
    if terms == 0:
        raise ValueError("nothing to validate on")
    return total / terms


@contextmanager
def _accelerator(device: str, precision: str) -> Iterator[Any]:
    """An Accelerator for one training; its global state is taken down, so that the next may choose otherwise."""
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    check_launch()
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    try:
        try:
            accelerator = Accelerator(cpu=device == "cpu", mixed_precision="bf16" if precision == "bf16" else "no")
        except NotImplementedError as error:  # GPUs that cannot reach each other with the driver that is there
            raise UserError(" ".join(str(error).split())) from None
        yield accelerator
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
