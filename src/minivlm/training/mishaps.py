"""What ends a training besides its last step, said in one line with what to do: no finite loss, no memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from minivlm.errors import TrainingError
from minivlm.training.result import DivergedError
from minivlm.training.resume import save_weights

if TYPE_CHECKING:
    from minivlm.data.store import TokenStore
    from minivlm.training.steps import Steps

_LISTED = 20  # rows of a step that are named


@contextmanager
def kept_when_diverged(
    folder: Path | None, rows_of: Callable[[int], Sequence[str]], *, is_main: bool = True
) -> Iterator[None]:
    """Of a loss that is not finite, name the step's rows, and keep what validated best in `folder`; None: nowhere.

    `rows_of(step)`: the ids of the rows of a step, from 1. Of several processes the first one does so.
    """
    try:
        yield
    except DivergedError as error:
        if not is_main:
            raise
        line = str(error) if error.step is None else f"{error}; {_listed(rows_of(error.step))}"
        if error.best_state and folder:
            path = folder / "best.safetensors"
            save_weights(path, error.best_state)
            line += f"; the weights that validated best, after step {error.best_step}, are in {path}"
        raise TrainingError(line) from None


def row_ids(steps: Steps, store: TokenStore, stage: str, step: int) -> list[str]:
    """The ids of the rows of a step, from 1, of all processes."""
    return [f"{stage}:{store.row_numbers[row]}" for batch in steps[step - 1] for row in batch]


def _listed(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _LISTED:,} more" if len(ids) > _LISTED else ""
    return f"rows of the step: {', '.join(ids[:_LISTED])}{more}"


@contextmanager
def memory_advice(what: str, device: str, advice: str) -> Iterator[None]:
    """Where the memory of the device or the machine does not suffice for `what`, say so with `advice`."""
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
        raise TrainingError(f"{what}: out of memory on {where}; {advice}") from None


def smaller_batches(stage: str, batch_tokens: int, accumulation: int, longest: int) -> str:
    """Half of the tokens at a time and as many in a step, for `memory_advice`; `longest`: tokenize.max_length.

    No fewer tokens than that: such a parameter is refused.
    """
    fewer = max(batch_tokens // 2, longest)
    if fewer >= batch_tokens:
        return (
            f"{stage}.batch_tokens {batch_tokens} can be no less beside tokenize.max_length {longest}: lower "
            f"that, train less of the model ({stage}.freeze), or share it out over GPUs (runtime.sharding: full)"
        )
    return (
        f"set {stage}.batch_tokens to {fewer} (it is {batch_tokens}) and {stage}.accumulation to "
        f"{math.ceil(accumulation * batch_tokens / fewer)}: a step then learns from as much"
    )


def smaller_batch(key: str, now: int, least: int = 1, otherwise: str = "") -> str:
    """Half of what parameter `key` is now and not less than `least`, else `otherwise`; for `memory_advice`."""
    fewer = max(now // 2, least)
    return f"set {key} to {fewer} (it is {now})" if fewer < now else otherwise
