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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from minivlm.device import resolve_device, resolve_precision
from minivlm.errors import StoppedError, UserError
from minivlm.training.distributed import ALONE, Processes, Repeat, check_launch
from minivlm.training.optimizer import adamw, trained_parameters
from minivlm.training.progress import TrainingProgress
from minivlm.training.result import Counted, FitResult, LossWindow
from minivlm.training.schedule import evenly_spaced
from minivlm.training.schedule import learning_rate as rate_of
from minivlm.training.stopping import StopAsked, never

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
    stop: Callable[[], bool] = never,
) -> FitResult:
    """Train what requires a gradient in `objective` for `total_steps` steps; it is left with the last weights.

    `validate()` returns the validation loss (see `mean_loss`); it runs in the training's precision, `validations`
    times at even distances, the last time after the last step. `optimizer(objective, weight_decay)` makes the
    optimizer, whose learning rate the loop sets. `on_log(step, metrics)` is called for every row of the history;
    the price is that of one of the `devices`. ValueError when `steps` ends early. DivergedError (a TrainingError)
    when a loss or a gradient norm is not finite, or a step has no term at all: that step is not taken.

    Of several `processes` each calls this with its share of every step and gets the same losses; `sharded`: see
    `in_company`. `on_save(state)` is called in all of them when `save_every` seconds have passed since the last
    time (0: after every step), and at the end. A training given that state as `resume`, and the steps after
    `resume.result.steps`, goes on as this one does.

    `stop()` is asked before every step and after the last one; when it holds in one of the processes, the state is
    given to `on_save`, whatever the time, and StoppedError raised. `validate()` may raise StopAsked, to be stopped
    halfway (see `mean_loss`): the training that goes on then begins with that validation.
    """
    from minivlm.training.distributed_model import in_company
    from minivlm.training.resume import put_back, take_state, trained_state

    device = resolve_device(device)
    result = resume.result if resume else FitResult()
    result.precision, result.device = resolve_precision(precision, device), device
    window = resume.window if resume else LossWindow(max(1, math.ceil(TRAIN_LOSS_SHARE * total_steps)))
    plan = _Plan(
        label, total_steps, learning_rate, warmup_ratio, min_learning_rate_ratio, log_steps,
        validated=evenly_spaced(total_steps, validations) if validate else frozenset(),
    )  # fmt: skip
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
        saved_step = result.steps
        # A training that was stopped during a validation has taken the step and not written its row.
        is_open = result.steps in plan.validated and result.row_of(result.steps) is None
        save_now = 0
        try:
            while is_open or result.steps < total_steps:
                if not is_open:
                    with processes.together():
                        batches = next(stream, None)
                    if batches is None:
                        raise ValueError(f"{label}: data for {result.steps} of {total_steps} steps")
                    is_due = (
                        processes.is_main and save_every is not None and time.monotonic() >= saved + save_every
                    )
                    count, *seen, stops, save_now = map(int, processes.sum(*_sizes(batches), stop(), is_due))
                    if stops:
                        raise StopAsked
                    nats, norm = _gradients(module, trained, batches, count, accelerator, processes, max_grad_norm)
                    step = result.steps + 1
                    if not (math.isfinite(nats) and math.isfinite(norm)):
                        figures = f"loss {nats / max(count, 1):.4g}, gradient norm {norm:.4g}"
                        raise result.diverged(f"{plan.where(step)}: {figures}", step)
                    _update(prepared, trained, plan.rate(step))
                    result.add_step(*seen, grad_norm=norm)
                    window.add(nats, count)
                    progress.step(step, nats / count, result.samples)

                step, val_loss = result.steps, None
                if validate and step in plan.validated:
                    with accelerator.autocast():
                        val_loss = validate()
                    if is_open:
                        is_open, saved_step = False, 0  # the state of this step has no row of it yet
                    if not math.isfinite(val_loss):
                        raise result.diverged(f"{plan.where(step)}: validation loss {val_loss:.4g}")
                    if result.val_loss is None or val_loss < result.val_loss:
                        result.val_loss, result.best_step = val_loss, step
                        result.best_state = trained_state(objective)
                result.take_time(spent + time.monotonic() - start, devices)
                if plan.has_row(step):
                    row = result.add_row(window.since_row(), val_loss, plan.rate(step))
                    paid = None if price_per_hour is None else price_per_hour * result.device_seconds / 3600
                    on_log(step, row.metrics(result.seconds, paid))
                if save_now and on_save:
                    on_save(take_state(objective, prepared, result, window))
                    saved, saved_step = time.monotonic(), step
            if any(processes.sum(stop())):  # after the last batch: what follows the steps may take long
                raise StopAsked
        except StopAsked:
            result.take_time(spent + time.monotonic() - start, devices)
            if on_save and result.steps > saved_step:
                on_save(take_state(objective, prepared, result, window))
            raise StoppedError(f"{label}: after step {result.steps:,} of {total_steps:,}") from None
        result.take_time(spent + time.monotonic() - start, devices)
        if on_save and save_every is not None and result.steps > saved_step:
            # What follows writes the model and waits for the tracker: a stop there has no step taken anew.
            on_save(take_state(objective, prepared, result, window))
    result.train_loss = window.mean()
    result.last_state = trained_state(objective)
    if validate is None:
        result.best_step, result.best_state = result.steps, result.last_state
    return result


@dataclass(frozen=True)
class _Plan:
    """What each step of a training is to be."""

    label: str
    total_steps: int
    learning_rate: float
    warmup_ratio: float
    min_learning_rate_ratio: float
    log_steps: int
    validated: frozenset[int]

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 1."""
        return rate_of(step, self.total_steps, self.learning_rate, self.warmup_ratio, self.min_learning_rate_ratio)

    def where(self, step: int) -> str:
        """The beginning of a message about a step."""
        return f"{self.label}: step {step}, learning rate {self.rate(step):.3g}"

    def has_row(self, step: int) -> bool:
        """Whether the history has a row of it."""
        return step % self.log_steps == 0 or step in (1, self.total_steps) or step in self.validated


def _update(optimizer: Any, trained: Sequence[nn.Parameter], rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    for parameter in trained:
        parameter.grad = None


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
