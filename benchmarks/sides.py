"""This project's side of the comparison: its model, optimizer and batches; the other one is in reference_side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from benchmarks.clock import Counts, Phases, Work
from benchmarks.setting import FREEZE, Setting

WEIGHT_DECAY = 0.01
MAX_GRAD_NORM = 1.0


class Ours:
    """This project's step: the objective, the batches and the optimizer that its stages train with."""

    def __init__(
        self,
        setting: Setting,
        stage: str,
        *,
        device: str,
        precision: str,
        batch_tokens: int,
        workers: int,
    ) -> None:
        """`precision`: fp32 or bf16."""
        from minivlm.data.pictures import Preparation
        from minivlm.model import checkpoint
        from minivlm.model.vision_language import VisionLanguageLoss
        from minivlm.training.optimizer import freeze

        self._setting, self.stage, self.device, self.precision = setting, stage, device, precision
        self._batch_tokens, self._workers = batch_tokens, workers
        self.tokens, self._pictures = setting.tokens(stage), setting.pictures()
        self._preparation = Preparation.read(setting.base / "vision_tower")
        self.model: Any = setting.model()
        freeze(self.model, FREEZE[stage])
        normalization = checkpoint.normalization(setting.base)
        self.objective = VisionLanguageLoss(self.model, *normalization, self._preparation)
        self.objective.to(device).train()

    @property
    def _low(self) -> AbstractContextManager[Any]:
        bf16 = self.precision == "bf16"
        return torch.autocast(self.device.partition(":")[0], torch.bfloat16) if bf16 else nullcontext()

    @property
    def tower(self) -> tuple[Any, str]:
        """What computes pictures' features: holder and name of the method."""
        return self.objective, "picture_features"

    def compile(self) -> None:
        """Let the layers be compiled in the steps that follow; counting does not see into them any more."""
        from minivlm.model.layers import compile_layers

        compile_layers(self.model)

    def converted(self) -> AbstractContextManager[Any]:
        """While inside, frozen weights are in the precision of the products that read them, as in a stage."""
        from minivlm.model.frozen import frozen_in

        return frozen_in(self.model, self.precision)

    def plan(self, steps: int, parts: int = 1) -> list[list[Any]]:
        """Rows of `steps` batches for each of `parts`, each a fair sample of the store's epochs.

        Batches are ordered by their longest row and taken at even distances: long rows are few, and a part that
        has some by chance would be slow by chance.
        """
        import numpy as np

        from minivlm.data.batches import plan_batches

        lengths = self.tokens.lengths
        planned: list[Any] = []
        epoch = 0
        while len(planned) < steps * parts:
            planned += plan_batches(lengths, self._batch_tokens, self._setting.seed, epoch)
            epoch += 1
        planned.sort(key=lambda rows: int(lengths[rows].max()))
        places = ((np.arange(steps * parts) + 0.5) * len(planned) / (steps * parts)).astype(int)
        random = np.random.default_rng(self._setting.seed)
        return [[planned[i] for i in random.permutation(places[part::parts])] for part in range(parts)]

    def operations(self, rows: Sequence[int]) -> int:
        """FLOPs of a step over these rows at their own lengths: neither padding nor spare logits are work."""
        from minivlm.training.cost import LlamaShape, VisionShape, step_flops

        config = self.model.config
        llm, vision = LlamaShape.of(config.text_config), VisionShape.of(config.vision_config)
        whole, lengths = FREEZE[self.stage] == "llm", self.tokens.lengths
        return sum(
            step_flops(
                llm,
                vision,
                batch=1,
                length=int(lengths[row]),
                supervised=int(self.tokens.supervised[row]),
                trained_layers=llm.layers if whole else 0,
                trained_logits=whole,
            )
            for row in rows
        )

    def batches(self, plan: Sequence[Any], workers: int | None = None, features: Any = None) -> Iterator[Any]:
        """The batches of a plan, on the CPU; `features`: a FeatureStore, which is read instead of pictures."""
        from minivlm.training.feed import made_batches

        made = made_batches(
            plan,
            self.tokens,
            self._pictures,
            self._preparation,
            image_token_id=self.model.config.image_token_id,
            batch_tokens=self._batch_tokens,
            device=self.device,
            workers=self._workers if workers is None else workers,
            features=features,
        )
        return iter(made)

    def loss(self, rows: Sequence[int], low: bool) -> float:
        """Nats a token of these rows, in float32 or (`low`) in the training's precision."""
        import numpy as np

        [batch] = self.batches([np.array(rows)], workers=0)
        with torch.no_grad(), self.converted() if low else nullcontext(), self._low if low else nullcontext():
            total = self.objective(batch.to(self.device))
        return float(total) / int(batch.count)

    def step_in_phases(self, plan: Sequence[Any], phases: Phases) -> int:
        """Steps with the time of every part taken; returns the rows."""
        with self.converted():
            return self._step_in_phases(plan, phases)

    def _step_in_phases(self, plan: Sequence[Any], phases: Phases) -> int:
        from minivlm.training.optimizer import adamw, trained_parameters

        optimizer = adamw(self.objective, WEIGHT_DECAY)
        # The first batch comes twice: the first time the optimizer makes its state, and kernels may be compiled.
        stream, rows = self.batches([plan[0], *plan], workers=0), 0
        for number in range(len(plan) + 1):
            if number == 1:
                phases.seconds.clear()
                rows = 0
            with phases("decode"):
                batch = next(stream)
            moved = batch.to(self.device)
            with phases("forward"), self._low:
                loss = self.objective(moved) / batch.count
            with phases("backward"):
                loss.backward()
            with phases("optimizer"):
                torch.nn.utils.clip_grad_norm_(trained_parameters(self.objective).values(), MAX_GRAD_NORM)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            rows += batch.samples
        return rows

    def work(self, plan: Sequence[Any]) -> Mapping[str, Any]:
        """What is computed for the rows of a plan, counted."""
        rows = distinct = tokens = padded = supervised = 0
        with Work(self.model.model.vision_tower, self.model.config.text_config.vocab_size) as work:
            for batch in self.batches(plan, workers=0):
                with torch.no_grad(), self._low:
                    self.objective(batch.to(self.device))
                rows, distinct = rows + batch.samples, distinct + len(batch.pixels)
                tokens, padded = tokens + batch.tokens, padded + batch.padded_tokens
                supervised += int(batch.count)
        return Counts(rows, distinct, tokens, padded, supervised, work.positions, work.pictures).figures()
