"""The validation loss of any of the trainings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from minivlm.training.distributed import ALONE, Processes, Repeat
from minivlm.training.stopping import StopAsked, never

if TYPE_CHECKING:
    from torch import nn

    from minivlm.training.loop import Batch


def mean_loss(
    objective: nn.Module,
    batches: Iterable[Batch],
    processes: Processes = ALONE,
    stop: Callable[[], bool] = never,
) -> float:
    """The objective's loss a term over all batches, without gradients; summed in float64.

    Of several processes each brings its share of the batches, all of them equally many. StopAsked when `stop()`,
    asked before every batch, holds in one of them. ValueError when the batches have no term.
    """
    import torch

    device = next(objective.parameters()).device
    training = objective.training
    objective.eval()
    nats, count = torch.zeros((), dtype=torch.float64, device=device), 0
    stream = iter(batches)
    try:
        with torch.no_grad():
            while True:
                # Around the loading alone: in the forward pass of a sharded model processes wait for each other.
                with processes.together():
                    batch = next(stream, None)
                if batch is None:
                    break
                if any(processes.sum(stop())):
                    raise StopAsked
                if isinstance(batch, Repeat):
                    objective(batch.to(device).batch)  # a sharded model is put together by all processes
                    continue
                nats += objective(batch.to(device))
                count += batch.count
    finally:
        objective.train(training)
    total, terms = processes.sum(float(nats), count)
    if terms == 0:
        raise ValueError("nothing to validate on")
    return total / terms
