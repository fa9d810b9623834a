"""Time on a device, where in a step it goes, and what is computed in it."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def now(device: str) -> float:
    """Seconds, after everything that was given to the device is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


@dataclass(frozen=True)
class Segment:
    """Steps of one side, timed in one piece; the reference's without tokens and operations."""

    seconds: float
    memory_bytes: int | None
    steps: int = 0
    rows: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    operations: int = 0


class Meter:
    """Time and, on a GPU, peak memory from its making to `stop`, and what was done in between."""

    def __init__(self, device: str, beside: int = 0) -> None:
        """`beside`: bytes on the GPU that are not of what is measured, and are left out of its peak memory."""
        self._device, self._beside = device, beside
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)
        self._done: Counter[str] = Counter()
        self._start = now(device)

    def add(self, batch: Any) -> None:
        """Count a step of this project; the batch itself is not kept."""
        self._done.update(steps=1, rows=batch.samples, tokens=batch.tokens, padded_tokens=batch.padded_tokens)

    def stop(self) -> Segment:
        """What was counted, and the seconds it took."""
        seconds = now(self._device) - self._start
        is_gpu = self._device.startswith("cuda")
        memory = torch.cuda.max_memory_allocated(self._device) - self._beside if is_gpu else None
        return Segment(seconds, memory, **self._done)


class Phases:
    """Seconds spent in named parts of a step."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time within to a part."""
        start = now(self._device)
        yield
        self.seconds[name] += now(self._device) - start

    @contextmanager
    def of_method(self, holder: Any, method: str, name: str) -> Iterator[None]:
        """Within, add the time that a method of `holder` takes to a part."""
        whole = getattr(holder, method)

        def timed(*arguments: Any) -> Any:
            with self(name):
                return whole(*arguments)

        setattr(holder, method, timed)
        try:
            yield
        finally:
            delattr(holder, method)


class Work(TorchDispatchMode):
    """Counts within: `positions` at which logits were computed, `pictures` that went through the tower.

    Logits are matrix products whose result is as wide as the vocabulary, however they are written.
    """

    def __init__(self, tower: Any, vocabulary: int) -> None:
        super().__init__()
        self._vocabulary = vocabulary
        self.positions = self.pictures = 0
        self._handle = tower.encoder.layers[0].register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.pictures += (arguments[0] if arguments else named["hidden_states"]).shape[0]

    def __exit__(self, *details: Any) -> None:
        self._handle.remove()
        super().__exit__(*details)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function.overloadpacket in _PRODUCTS and result.shape[-1] == self._vocabulary:
            self.positions += result.numel() // self._vocabulary
        return result


_PRODUCTS = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.linear)


@dataclass(frozen=True)
class Counts:
    """What was there and what was computed for it."""

    rows: int
    pictures: int  # distinct ones of a batch, summed
    tokens: int
    padded_tokens: int
    supervised: int
    positions: int
    tower_pictures: int

    def figures(self) -> dict[str, float]:
        """As step.json has them."""
        return {
            "rows": self.rows,
            "supervised_tokens": self.supervised,
            "logit_positions": self.positions,
            "padding_share": 1 - self.tokens / self.padded_tokens,
            "padded_tokens_per_row": self.padded_tokens / self.rows,
            "logit_positions_per_supervised_token": self.positions / self.supervised,
            "tower_runs_per_picture": self.tower_pictures / self.pictures,
        }
