"""The reference's side of the comparison: its model, optimizer and padded batches over the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from benchmarks import reference as plain
from benchmarks.clock import Counts, Phases, Work
from benchmarks.setting import FREEZE, Setting


class Theirs:
    """The reference's step, as the original trains."""

    def __init__(
        self, setting: Setting, stage: str, *, device: str, defaults: plain.Defaults, workers: int
    ) -> None:
        from minivlm.model.checkpoint import make_processor
        from minivlm.training.optimizer import freeze

        self.device, self.defaults, self._workers = device, defaults, workers
        self.tokens, self._pictures = setting.tokens(stage), setting.pictures()
        self.model: Any = setting.model()
        freeze(self.model, FREEZE[stage])
        self.reference = plain.Reference(self.model).to(device).train()
        self.optimizer = plain.make_optimizer(self.reference, defaults.learning_rate)
        self._processor = make_processor(setting.base, self.model.config).image_processor

    @property
    def tower(self) -> tuple[Any, str]:
        """What computes pictures' features: holder and name of the method."""
        return self.reference, "features"

    def held(self) -> int:
        """Bytes of weights, gradients and the optimizer's state: what stays on the device between two segments."""
        weights = [*self.reference.parameters(), *self.reference.buffers()]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        states = [each for state in self.optimizer.state.values() for each in state.values()]
        on_device = [
            tensor for tensor in (*weights, *gradients, *states)
            if isinstance(tensor, torch.Tensor) and tensor.device == weights[0].device
        ]  # fmt: skip
        return sum(tensor.nbytes for tensor in on_device)

    def rows(self, steps: int, of: Sequence[int] | None = None) -> list[int]:
        """The rows of that many batches: of the store, or of some rows of it, over and over if they are few."""
        chosen = range(len(self.tokens)) if of is None else of
        return [int(chosen[i % len(chosen)]) for i in range(steps * self.defaults.batch_size)]

    def batches(self, rows: Sequence[int], workers: int | None = None) -> Iterator[plain.Batch]:
        """Padded batches, on the CPU."""
        padded = plain.PaddedRows(rows, self.tokens, self._pictures, self._processor, self.defaults.max_length)
        workers = self._workers if workers is None else workers
        pin = self.device.startswith("cuda")
        return iter(plain.loader(padded, self.defaults.batch_size, workers=workers, pin_memory=pin))

    def loss(self, rows: Sequence[int], low: bool) -> float:
        """Nats a token of a batch's rows, in float32 or (`low`) under its dtype policy."""
        [batch] = self.batches(rows, workers=0)
        moved = tuple(tensor.to(self.device) for tensor in batch)
        with torch.no_grad(), plain.autocast(self.device) if low else nullcontext():
            return float(self.reference.loss(moved))  # type: ignore[arg-type]

    def steps(self, batches: Iterator[plain.Batch]) -> int:
        """A step for each batch; returns the rows."""
        return plain.train_steps(self.reference, batches, self.optimizer, self.device)

    def step_in_phases(self, steps: int, phases: Phases) -> int:
        """Steps with the time of every part taken; returns the rows."""
        stream, rows = self.batches(self.rows(steps), workers=0), 0
        for _ in range(steps):
            with phases("decode"):
                batch = next(stream)
            rows += plain.train_steps(self.reference, iter([batch]), self.optimizer, self.device, phases)
        return rows

    def work(self, steps: int) -> Mapping[str, Any]:
        """What is computed for the rows of some batches, counted."""
        rows = self.rows(steps)
        wanted = [int(picture) for row in rows for picture in self.tokens.pictures(row)]
        supervised = padded = 0
        with Work(self.model.model.vision_tower, self.model.config.text_config.vocab_size) as work:
            for batch in self.batches(rows, workers=0):
                with torch.no_grad(), plain.autocast(self.device):
                    self.reference.loss(tuple(tensor.to(self.device) for tensor in batch))  # type: ignore[arg-type]
                padded, supervised = padded + batch[0].numel(), supervised + int(batch[2].sum())
        tokens = int(sum(len(self.tokens.tokens(row)) for row in rows)) - len(rows)  # it shifts every row by one
        return Counts(
            len(rows), len(set(wanted)), tokens, padded, supervised, work.positions, work.pictures
        ).figures()
