"""Several processes as one training: who takes which micro-batch, sums over all, and errors of one.

A step's micro-batches are dealt out: of W processes, process r takes r, r + W, …; so what a step learns from does
not depend on W. All processes compute equally many, ceil(M / W) of M, because they meet in each backward pass: one
that has too few repeats a micro-batch with the weight zero.

`torchrun` and `accelerate launch` start the processes and tell each its number (docs/scale.md). Alone, nothing
here costs anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self, TypeVar

from minivlm.errors import UserError
from minivlm.launcher import launched_as

Item = TypeVar("Item")
Made = TypeVar("Made")

PATIENCE = timedelta(minutes=10)  # with a sum, of numbers or gradients; what torch gives NCCL


@dataclass(frozen=True)
class Repeat:
    """A micro-batch that another process counts: computed for the company, with no weight."""

    batch: Any
    count: int = 0
    samples: int = 0
    tokens: int = 0
    padded_tokens: int = 0

    def to(self, device: Any) -> Self:
        """The batch on a device."""
        return type(self)(self.batch.to(device))


@dataclass(frozen=True)
class Processes:
    """The processes of this training and which of them this one is; `local`: among those of its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this one writes, tracks and speaks for all."""
        return self.rank == 0

    def share(self, step: Sequence[Item]) -> list[Item]:
        """The micro-batches this process computes: its own, then the step's last again where others have more."""
        mine = list(step[self.rank :: self.size])
        return mine + list(step[-1:]) * (-(-len(step) // self.size) - len(mine))

    def weighted(self, batches: Iterable[Any], number: int) -> Iterator[Any]:
        """The batches of a share of `number` micro-batches; those that others count come as `Repeat`."""
        own = len(range(self.rank, number, self.size))
        for i, batch in enumerate(batches):
            yield batch if i < own else Repeat(batch)

    def sum(self, *numbers: float) -> list[float]:
        """Each number's sum over the processes, in float64; all of them have to ask for it."""
        if self.size == 1:
            return list(numbers)
        return self._sum(numbers)

    def _sum(self, numbers: Sequence[float], group: Any = None) -> list[float]:
        import torch
        from torch import distributed

        values = torch.tensor(numbers, dtype=torch.float64)
        distributed.all_reduce(values, group=group)
        return list(values.tolist())

    @contextmanager
    def together(self) -> Iterator[None]:
        """What one process cannot do, none has done: a UserError of one is raised in all.

        However long it takes one of them, the others wait; see `join`.
        """
        if self.size == 1:
            yield
            return
        error = None
        try:
            yield
        except UserError as raised:
            error = raised
        if self._sum([float(error is not None)], _patient.get("group")) != [0.0]:
            raise UserError(self._first(str(error) if error else None)) from None

    def from_main(self, make: Callable[[], Made]) -> Made:
        """What `make` returns in the main process, in all of them; a UserError too."""
        made: list[Any] = [None]
        with self.together():
            if self.is_main:
                made = [make()]
        if self.size > 1:
            from torch import distributed

            distributed.broadcast_object_list(made, src=0)
        return made[0]

    def _first(self, message: str | None) -> str:
        """The message of the first process that has one."""
        from torch import distributed

        messages: list[str | None] = [None] * self.size
        distributed.all_gather_object(messages, message)
        return next(each for each in messages if each is not None)


ALONE = Processes()


def find_processes() -> Processes:
    """What the launcher's environment variables say; ALONE without them. UserError where only some are there."""
    numbers = launched_as()
    return Processes(*numbers) if numbers else ALONE


def own_device(device: str, processes: Processes) -> str:
    """The device of this process: where there are several, each has the GPU of its number on its machine.

    `device` as in params.yaml; UserError when there are fewer GPUs than processes.
    """
    from minivlm.device import resolve_device

    if processes.local_size == 1 or device == "cpu":
        return resolve_device(device)
    if ":" in device:
        raise UserError(f"runtime.device {device!r} is one GPU, for {processes.size} processes; set it to auto")
    if resolve_device(device) == "cpu":
        return "cpu"
    import torch

    if processes.local_rank >= (count := torch.cuda.device_count()):
        raise UserError(
            f"{processes.local_size} processes on a machine with {count} GPUs; start as many as there are GPUs "
            "(runtime.launcher)"
        )
    return f"cuda:{processes.local_rank}"


def check_launch() -> None:
    """UserError where `accelerate launch` was told to share the model in a way that the loop does not know.

    It may have been told so by a file of the user's that no option names.
    """
    for way in ("FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"):
        if os.environ.get(f"ACCELERATE_USE_{way}", "").lower() in ("1", "true", "yes", "on", "t", "y"):
            raise UserError(
                f"ACCELERATE_USE_{way} is set, by accelerate's options or its default_config.yaml; what shares "
                "the model out is runtime.sharding: start without it, for example with torchrun"
            )


def check_share(processes: Processes, stage: str, accumulation: int, sharding: str) -> None:
    """UserError when the steps of a stage cannot be shared out, or a model not in the way that was asked for.

    Asked before a training prepares anything, which may take hours.
    """
    check_launch()
    if accumulation < processes.size:
        raise UserError(
            f"{stage}.accumulation {accumulation}: so many micro-batches make a step, for {processes.size} "
            f"processes; set it to {processes.size} or a multiple, and lower {stage}.batch_tokens as much"
        )
    if sharding != "none" and processes.size == 1:
        raise UserError(
            f"runtime.sharding {sharding!r} shares the model out over processes, and there is one; "
            "set runtime.launcher, or sharding: none"
        )


_patient: dict[str, Any] = {}
"""`group`: of the same processes, in which they wait for what one of them prepares."""


def join(processes: Processes, device: str) -> None:
    """Let the processes reach each other: numbers through gloo, gradients on GPUs through NCCL.

    A process that has died is noticed by the launcher; one that hangs, with its GPU, by the others, who give up
    when a sum takes longer than PATIENCE. Only in `together` they wait a day: one may prepare something for hours.
    """
    if processes is ALONE:
        return
    import torch
    from torch import distributed

    if device.startswith("cuda"):
        torch.cuda.set_device(device)
        gpu = torch.device(device)
        distributed.init_process_group("cpu:gloo,cuda:nccl", timeout=PATIENCE, device_id=gpu)
    else:
        distributed.init_process_group("gloo", timeout=PATIENCE)
    _patient["group"] = distributed.new_group(backend="gloo", timeout=timedelta(days=1))


def leave(processes: Processes) -> None:
    """Take down what `join` has set up; after an error the process ends without it."""
    if processes is ALONE:
        return
    from torch import distributed

    _patient.clear()
    distributed.destroy_process_group()
