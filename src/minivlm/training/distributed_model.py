"""The model that several processes train: a copy in each (DDP), or a part of each parameter in each (FSDP)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from minivlm.training.distributed import Processes, Repeat


def in_company(
    objective: nn.Module, device: torch.device, processes: Processes, sharded: Sequence[nn.Module] | None
) -> nn.Module:
    """The module to call in a training step instead of `objective`, which lies on its device.

    Its gradients are the means over the processes. With `sharded` None, DDP adds them up, bucket by bucket while
    the backward pass goes on. Else FSDP keeps of every parameter, and so of gradients and optimizer, one part in
    each process, and gathers whole what it computes with: each module of `sharded` by itself, the rest together.
    `objective` is then changed: its parameters become DTensors of the same names. Alone it is left as it is.
    """
    if processes.size == 1:
        return objective
    if sharded is None:
        return nn.parallel.DistributedDataParallel(
            _Weighted(objective), forward_sync_buffers=False, gradient_as_bucket_view=True
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes.size,))
    for module in sharded:
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
    fully_shard(objective, mesh=mesh)
    return _Weighted(objective)


class _Weighted(nn.Module):
    """The objective of micro-batches and repeats."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Any) -> torch.Tensor:
        """The batch's loss; of a Repeat, zero."""
        repeated = isinstance(batch, Repeat)
        loss: torch.Tensor = self.objective(batch.batch if repeated else batch)
        return loss * 0 if repeated else loss


def is_part(tensor: torch.Tensor) -> bool:
    """Whether this process holds but a part of a tensor."""
    return hasattr(tensor, "device_mesh")  # a DTensor, whose module takes a second to import


def whole(tensor: Any) -> torch.Tensor:
    """A tensor of which this process may hold a part; all processes have to ask for it."""
    return tensor.full_tensor() if is_part(tensor) else tensor


def part_of(tensor: torch.Tensor, parameter: Any) -> torch.Tensor:
    """What this process holds of a whole tensor, when it holds `parameter` as it does."""
    if not is_part(parameter):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)
