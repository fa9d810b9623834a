"""What ends a training besides its last step, said in one line with what to do: no finite loss, no memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from minivlm.errors import TrainingError
from minivlm.training.result import DivergedError
from minivlm.training.resume import save_weights

if TYPE_CHECKING:
    from minivlm.data.store import TokenStore
    from minivlm.training.distributed import Processes
    from minivlm.training.steps import Steps

_LISTED = 20  # rows of a step that are named


@contextmanager
def kept_when_diverged(
    state: Path, steps: Steps, store: TokenStore, stage: str, processes: Processes
) -> Iterator[None]:
    """Of a loss that is not finite, name the step's rows, and keep what validated best in `state`."""
    try:
        yield
    except DivergedError as error:
        if not processes.is_main:
            raise
        line = str(error) if error.step is None else f"{error}; {_rows(steps, store, stage, error.step)}"
        if error.best_state:
            path = state / "best.safetensors"
            save_weights(path, error.best_state)
            line += f"; the weights that validated best, after step {error.best_step}, are in {path}"
        raise TrainingError(line) from None


def _rows(steps: Steps, store: TokenStore, stage: str, step: int) -> str:
    ids = [f"{stage}:{store.row_numbers[row]}" for batch in steps[step - 1] for row in batch]
    more = f" and {len(ids) - _LISTED:,} more" if len(ids) > _LISTED else ""
    return f"rows of the step: {', '.join(ids[:_LISTED])}{more}"


@contextmanager
def memory_advice(stage: str, batch_tokens: int, accumulation: int, device: str) -> Iterator[None]:
    """Where the memory of the device or the machine does not suffice, say which parameter to lower to what."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if (
            isinstance(error, RuntimeError)
            and not isinstance(error, torch.OutOfMemoryError)
            and not ("allocate memory" in str(error) or "out of memory" in str(error))
        ):
            raise
        where = "this machine"
        if device.startswith("cuda"):
            where = f"{device} ({torch.cuda.get_device_properties(device).total_memory / 2**30:.0f} GiB)"
        raise TrainingError(
            f"{stage}: out of memory on {where}; set {stage}.batch_tokens to {batch_tokens // 2} (it is "
            f"{batch_tokens}) and {stage}.accumulation to {2 * accumulation}: a step then learns from as much"
        ) from None
