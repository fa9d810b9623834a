"""Some steps of a training on this machine, timed: the stage's own loop, model, batches and decoding.

Weights are drawn (their values change no time). Rows and pictures are those of the token store where that is of
the present parameters, else drawn ones of the expected lengths, in a folder that is removed afterwards. The first
steps, in which kernels are chosen and memory is taken, are left out.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minivlm import hardware
from minivlm.config.training import Training
from minivlm.planning.filling import ReadyFeatures, features_shape, time_filling
from minivlm.planning.work import planned_steps

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from minivlm.data.pictures import Preparation
    from minivlm.data.store import PictureStore, TokenStore
    from minivlm.training.operations import OperationCounter

WARM_UP = 3  # steps
FEWEST, MOST = 6, 200  # steps that are timed
_IMAGE_MEAN, _IMAGE_STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)  # any: they change no time

Timing = tuple[float, int]
"""Seconds, operations."""


@dataclass(frozen=True)
class Timed:
    """Each timed step, each timed validation batch, this process's peak memory; `filling` of the feature cache:
    seconds and pictures of each group."""

    steps: tuple[Timing, ...]
    validation: tuple[Timing, ...]
    memory: dict[str, int]
    filling: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True)
class Rows:
    """What the steps are made of."""

    tokens: TokenStore
    pictures: PictureStore
    preparation: Preparation
    image_token_id: int


@dataclass(frozen=True)
class Conditions:
    """A device as torch names it, the precision of products, threads, processes to decode."""

    device: str
    precision: str
    threads: int
    workers: int


def probe(
    config: Any,
    section: Training,
    rows: Rows,
    conditions: Conditions,
    *,
    samples: int,
    filled: int,
    seed: int,
    seconds: float,
) -> Timed:
    """Train about `seconds` seconds of steps of a stage, from random weights, and validate a few batches.

    `config`: of the LLaVA model; `samples`: rows of the whole stage, which decide whether worker processes decode;
    `filled`: pictures that go into the feature cache first, in which case the steps read features, 0 without one.
    What the training prints goes to stderr.
    """
    from minivlm.model.frozen import frozen_in
    from minivlm.training.device import seed_everything

    seed_everything(seed, conditions.threads)
    features = ReadyFeatures(features_shape(config), conditions.precision) if filled else None
    toy = _Stage(config, section, rows, conditions, samples, seed, features)
    with contextlib.redirect_stdout(sys.stderr), frozen_in(toy.objective.model, conditions.precision):
        filling = toy.fill(filled, seconds / 2) if filled else ()
        *_, (last, _) = toy.train(WARM_UP)
        count = max(FEWEST, min(MOST, round(seconds / max(last, 1e-6))))
        # Batches that were made while the first one was waited for say nothing of how fast they are made.
        timed = toy.train(count + toy.waiting)[toy.waiting :]
        validation = toy.validate()
    return Timed(timed, validation, hardware.peak_memory(), filling)


class _Stage:
    """A stage's model, drawn, and its steps; `waiting`: batches that are made before the first one is taken."""

    def __init__(
        self,
        config: Any,
        section: Training,
        rows: Rows,
        conditions: Conditions,
        samples: int,
        seed: int,
        features: ReadyFeatures | None,
    ) -> None:
        from transformers import LlavaForConditionalGeneration

        from minivlm.data.batches import PREFETCHED
        from minivlm.model.layers import compile_layers
        from minivlm.model.vision_language import VisionLanguageLoss
        from minivlm.training.device import loader_workers
        from minivlm.training.operations import OperationCounter
        from minivlm.training.optimizer import freeze

        self._section, self._rows, self._conditions, self._features = section, rows, conditions, features
        model = LlavaForConditionalGeneration(config)
        freeze(model, section.freeze)
        if section.compile:
            compile_layers(model)
        self.objective = VisionLanguageLoss(model, _IMAGE_MEAN, _IMAGE_STD, rows.preparation)
        self._counter = OperationCounter(config, section.freeze)
        self._planned = planned_steps(rows.tokens, section, seed)
        self._decoding = loader_workers(conditions.workers, conditions.threads, conditions.device, samples)
        self.waiting = 1 + PREFETCHED * self._decoding

    def fill(self, pictures: int, seconds: float) -> tuple[tuple[float, int], ...]:
        """Seconds and pictures of some groups of the pass over so many `pictures`."""
        from minivlm.training.device import loader_workers

        on = self._conditions
        return time_filling(
            self.objective, self._rows.pictures, self._rows.preparation, precision=on.precision, device=on.device,
            workers=loader_workers(on.workers, on.threads, on.device, pictures), seconds=seconds,
        )  # fmt: skip

    def train(self, count: int) -> tuple[Timing, ...]:
        """So many steps, each timed."""
        plan = list(itertools.islice(itertools.cycle(self._planned), count + 1))
        clock = _Clock(self._counter)
        _fit(self.objective, clock.watch(self._batches(plan)), len(plan), self._section, self._conditions)
        return clock.steps()

    def validate(self) -> tuple[Timing, ...]:
        """A few batches forward, as the loop validates."""
        batches = next(self._batches([list(itertools.islice(self._planned.batches, 3))]))
        return _validate(self.objective, batches, self._counter, self._conditions)

    def _batches(self, plan: Sequence[Sequence[npt.NDArray[np.integer]]]) -> Iterator[list[Any]]:
        from minivlm.training.feed import made_batches
        from minivlm.training.steps import regroup

        rows, conditions = self._rows, self._conditions
        made = made_batches(
            list(itertools.chain.from_iterable(plan)),
            rows.tokens,
            rows.pictures,
            rows.preparation,
            image_token_id=rows.image_token_id,
            batch_tokens=self._section.batch_tokens,
            device=conditions.device,
            workers=self._decoding,
            features=self._features,  # type: ignore[arg-type]
        )
        return regroup(made, plan)


class _Clock:
    """Times of the steps that are taken from `watch`: from one being asked for to the next, loading included."""

    def __init__(self, counter: OperationCounter) -> None:
        self._counter, self._asked, self._flops = counter, list[float](), list[int]()

    def watch(self, steps: Iterable[list[Any]]) -> Iterator[list[Any]]:
        """The same steps."""
        iterator = iter(steps)
        while True:
            self._asked.append(time.perf_counter())
            step = next(iterator, None)
            if step is None:
                return
            self._flops.append(sum(map(self._counter.batch, step)))
            yield step

    def steps(self) -> tuple[Timing, ...]:
        """Seconds and operations of each but the last."""
        return tuple(
            (after - before, flops)
            for before, after, flops in zip(self._asked, self._asked[1:], self._flops, strict=False)
        )


def _fit(
    objective: Any, steps: Iterable[list[Any]], count: int, section: Training, conditions: Conditions
) -> None:
    from minivlm.training.loop import fit

    values = section.model_dump()
    for name in ("freeze", "epochs", "batch_tokens", "accumulation", "compile"):
        del values[name]
    values |= {"precision": conditions.precision, "learning_rate": 1e-7}  # random weights must not diverge
    fit(
        objective,
        steps,
        total_steps=count,
        device=conditions.device,
        validate=None,
        on_log=lambda step, metrics: None,
        label="probe",
        price_per_hour=None,
        **values,
    )


def _validate(
    objective: Any, batches: Sequence[Any], counter: OperationCounter, conditions: Conditions
) -> tuple[Timing, ...]:
    """Batches forward, as the loop validates, the first one left out."""
    import torch

    from minivlm.training.mean_loss import mean_loss

    found = []
    kind = torch.device(conditions.device).type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=conditions.precision == "bf16"):
        for batch in (batches[0], *batches):
            start = time.perf_counter()
            mean_loss(objective, [batch])
            found.append((time.perf_counter() - start, counter.batch(batch, backward=False)))
    return tuple(found[1:])
