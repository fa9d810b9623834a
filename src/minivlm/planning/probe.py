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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm import hardware
from minivlm.config.training import Training
from minivlm.planning.work import SUPERVISED_SHARE, draw_lengths, planned_steps

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from minivlm.data.pictures import Preparation
    from minivlm.data.store import PictureStore, TokenStore
    from minivlm.training.operations import OperationCounter

WARM_UP = 3  # steps
FEWEST, MOST = 6, 200  # steps that are timed
_PICTURES = 64  # drawn ones, each used by several rows
_IMAGE_MEAN, _IMAGE_STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)  # any: they change no time

Timing = tuple[float, int]
"""Seconds, operations."""


@dataclass(frozen=True)
class Timed:
    """Each timed step, each timed validation batch, and this process's peak memory."""

    steps: tuple[Timing, ...]
    validation: tuple[Timing, ...]
    memory: dict[str, int]


@dataclass(frozen=True)
class Rows:
    """What the steps are made of."""

    tokens: TokenStore
    pictures: PictureStore
    preparation: Preparation
    image_token_id: int


def probe(
    config: Any, section: Training, rows: Rows, *, precision: str, device: str, threads: int, workers: int,
    samples: int, seed: int, seconds: float,
) -> Timed:  # fmt: skip
    """Train about `seconds` seconds of steps of a stage, from random weights, and validate a few batches.

    `config`: of the LLaVA model; `device` as torch names it; `samples`: rows of the whole stage, which decide
    whether worker processes decode. What the training prints goes to stderr.
    """
    from transformers import LlavaForConditionalGeneration

    from minivlm.data.batches import PREFETCHED
    from minivlm.model.frozen import frozen_in
    from minivlm.model.layers import compile_layers
    from minivlm.model.vision_language import VisionLanguageLoss
    from minivlm.training.device import loader_workers, seed_everything
    from minivlm.training.feed import made_batches
    from minivlm.training.operations import OperationCounter
    from minivlm.training.optimizer import freeze
    from minivlm.training.steps import regroup

    seed_everything(seed, threads)
    model = LlavaForConditionalGeneration(config)
    freeze(model, section.freeze)
    if section.compile:
        compile_layers(model)
    objective = VisionLanguageLoss(model, _IMAGE_MEAN, _IMAGE_STD, rows.preparation)
    counter = OperationCounter(config, section.freeze)
    planned = planned_steps(rows.tokens, section, seed)
    decoding = loader_workers(workers, threads, device, samples)
    # Batches that were made while the first one was waited for say nothing of how fast they are made.
    waiting = 1 + PREFETCHED * decoding

    def batches(plan: Sequence[Sequence[npt.NDArray[np.integer]]]) -> Iterator[list[Any]]:
        made = made_batches(
            list(itertools.chain.from_iterable(plan)),
            rows.tokens,
            rows.pictures,
            rows.preparation,
            image_token_id=rows.image_token_id,
            batch_tokens=section.batch_tokens,
            device=device,
            workers=decoding,
        )
        return regroup(made, plan)

    def train(count: int) -> tuple[Timing, ...]:
        plan = list(itertools.islice(itertools.cycle(planned), count + 1))
        clock = _Clock(counter)
        _fit(objective, clock.watch(batches(plan)), len(plan), section, precision, device)
        return clock.steps()

    with contextlib.redirect_stdout(sys.stderr), frozen_in(model, precision):
        *_, (last, _) = train(WARM_UP)
        count = max(FEWEST, min(MOST, round(seconds / max(last, 1e-6))))
        timed = train(count + waiting)[waiting:]
        checks = next(batches([list(itertools.islice(planned.batches, 3))]))
        validation = _validate(objective, checks, counter, precision, device)
    return Timed(timed, validation, hardware.peak_memory())


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
    objective: Any, steps: Iterable[list[Any]], count: int, section: Training, precision: str, device: str
) -> None:
    from minivlm.training.loop import fit

    values = section.model_dump()
    for name in ("freeze", "epochs", "batch_tokens", "accumulation", "compile"):
        del values[name]
    values |= {"precision": precision, "learning_rate": 1e-7}  # random weights must not diverge
    fit(
        objective,
        steps,
        total_steps=count,
        device=device,
        validate=None,
        on_log=lambda step, metrics: None,
        label="probe",
        price_per_hour=None,
        **values,
    )


def _validate(
    objective: Any, batches: Sequence[Any], counter: OperationCounter, precision: str, device: str
) -> tuple[Timing, ...]:
    """Batches forward, as the loop validates, the first one left out."""
    import torch

    from minivlm.training.loop import mean_loss

    found = []
    kind = torch.device(device).type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=precision == "bf16"):
        for batch in (batches[0], *batches):
            start = time.perf_counter()
            mean_loss(objective, [batch])
            found.append((time.perf_counter() - start, counter.batch(batch, backward=False)))
    return tuple(found[1:])


def draw_rows(
    folder: Path, *, mean: float, longest: int, batch_tokens: int, batches: int, image_tokens: int,
    vocabulary: int, size: int, side: int, quality: int, seed: int,
) -> Rows:  # fmt: skip
    """Stores of rows for `batches` micro-batches: one picture each, random words, lengths around `mean`.

    Pictures are drawn scenes of `size` pixels as JPEG, which the tower takes at `side` pixels.
    """
    import numpy as np

    from minivlm.data.pictures import Preparation
    from minivlm.data.scenes.build import TRAINING
    from minivlm.data.scenes.draw import encode, render
    from minivlm.data.scenes.layout import sample_scene
    from minivlm.data.store import PictureStore, TokenStore
    from minivlm.data.store_writer import PictureWriter, TokenWriter

    pictures, tokens = PictureWriter(folder / "pictures"), TokenWriter(folder / "tokens", "uint32")
    random = np.random.default_rng(seed)
    for index in range(_PICTURES):
        pictures.add(encode(render(sample_scene(seed, TRAINING, index), size), quality))
    pictures.close()
    longest = min(longest, batch_tokens)
    lengths = draw_lengths(mean, max(8, round(batches * batch_tokens / mean)), image_tokens, longest, seed)
    image, words = vocabulary - 1, range(3, vocabulary - 1)
    for number, length in enumerate(lengths.tolist()):
        ids = random.integers(words.start, words.stop, length)
        ids[1 : 1 + image_tokens] = image
        mask = np.arange(length) >= length - round(SUPERVISED_SHARE * (length - image_tokens))
        tokens.add(number, ids, mask, [number % _PICTURES])
    meta = {"image_token_id": image, "image_tokens": image_tokens, "pad_token_id": 0}
    tokens.close(np.zeros(len(lengths), dtype=bool), meta)
    return Rows(TokenStore(folder / "tokens"), PictureStore(folder / "pictures"), Preparation(side, side), image)
