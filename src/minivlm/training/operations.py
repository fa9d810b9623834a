"""Operations of a training, counted batch by batch as they pass (see `cost` for what is counted).

Counted is what is computed: padding and padded-up logit positions are in it, a picture that several rows of a
batch share is in it once; layers above the one that features are taken from are not, and the tower is not where
its features are read from disk.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from minivlm.training import cost
from minivlm.training.distributed import Repeat

if TYPE_CHECKING:
    from minivlm.config import FreezePolicy
    from minivlm.data.batches import Batch
    from minivlm.data.text_tasks import TextTaskBatch
    from minivlm.training.contrastive import PairBatch
    from minivlm.training.result import FitResult

AnyBatch = TypeVar("AnyBatch")


class StepCounter(ABC, Generic[AnyBatch]):
    """FLOPs of the steps that went through `watch`, and of the validation batches through `watch_validation`."""

    def __init__(self, optimizer_step: int = 0) -> None:
        """`optimizer_step`: FLOPs of the optimizer's matrix products in a step; AdamW has none."""
        self._optimizer_step = optimizer_step
        self.flops = 0
        self.validation_flops = 0
        self.optimizer_flops = 0

    @abstractmethod
    def batch(self, batch: AnyBatch, backward: bool = True) -> int:
        """FLOPs of a batch, forward and, if `backward`, backward."""

    def watch(self, steps: Iterable[Sequence[AnyBatch]]) -> Iterator[Sequence[AnyBatch]]:
        """The same steps, counted as they are taken."""
        for step in steps:
            self.flops += sum(self.batch(batch) for batch in step if not isinstance(batch, Repeat))
            self.optimizer_flops += self._optimizer_step
            yield step

    def watch_validation(self, batches: Iterable[AnyBatch]) -> Iterator[AnyBatch]:
        """The same batches, counted forward."""
        for batch in batches:
            if not isinstance(batch, Repeat):
                self.validation_flops += self.batch(batch, backward=False)
            yield batch

    def go_on(self, result: FitResult) -> None:
        """Count on from what a result holds."""
        self.flops, self.validation_flops = result.flops, result.validation_flops
        self.optimizer_flops = result.optimizer_flops

    def note(self, result: FitResult) -> FitResult:
        """The result, with what was counted written into it."""
        result.flops, result.validation_flops = self.flops, self.validation_flops
        result.optimizer_flops = self.optimizer_flops
        return result


class OperationCounter(StepCounter["Batch"]):
    """Of a LLaVA's training: frozen tower, projector, and the language model as the freeze policy trains it."""

    def __init__(self, config: Any, policy: FreezePolicy) -> None:
        """`config`: of a LLaVA model; `policy`: what is trained beside the projector."""
        super().__init__()
        self._llm = cost.LlamaShape.of(config.text_config)
        vision = cost.VisionShape.of(config.vision_config)
        # Layers above the one that features are taken from are not run.
        self._vision = dataclasses.replace(vision, layers=config.vision_feature_layer % (vision.layers + 1))
        layers = self._llm.layers
        self._trained_layers = {
            "projector": 0, "projector+last_layer": 1, "first_last": min(2, layers), "llm": layers
        }[policy]  # fmt: skip
        self._trained_logits = policy == "llm"

    def batch(self, batch: Batch, backward: bool = True) -> int:
        """FLOPs of a batch, each distinct picture computed once."""
        rows, length = batch.input_ids.shape
        # Not `count`: positions may be padded up to a round number, and are computed all the same.
        positions, cached = int(batch.supervised.numel()), batch.features is not None
        pictures = len(batch.pixels if batch.features is None else batch.features)
        return self.shapes(rows, length, positions, pictures, backward, cached)

    def shapes(
        self, rows: int, length: int, supervised: int, pictures: int, backward: bool = True, cached: bool = False
    ) -> int:
        """FLOPs of `rows` x `length` tokens, logits at `supervised` positions, and `pictures` pictures.

        `cached`: the tower's features are read, not computed.
        """
        llm, vision = self._llm, self._vision
        tokens = pictures * vision.patches
        forward = (
            (0 if cached else cost.vision_forward_flops(vision, pictures))
            + cost.projector_flops(vision.hidden_size, llm.hidden_size, tokens, backward)
            + cost.llama_forward_flops(llm, rows, length, supervised)
        )
        if not backward:
            return forward
        return forward + cost.llama_backward_flops(
            llm, rows, length, supervised, self._trained_layers, self._trained_logits
        )


class TextCounter(StepCounter["TextTaskBatch"]):
    """Of the base language model's training, all of it trained."""

    def __init__(self, config: Any, optimizer_step: int = 0) -> None:
        """`config`: of the language model."""
        super().__init__(optimizer_step)
        self._llm = cost.LlamaShape.of(config)

    def batch(self, batch: TextTaskBatch, backward: bool = True) -> int:
        """FLOPs of a batch; a sketch's slots are sums of embeddings, no products."""
        rows, length = batch.input_ids.shape
        supervised, llm = int(batch.supervised.numel()), self._llm
        forward = cost.llama_forward_flops(llm, rows, length, supervised)
        if not backward:
            return forward
        return forward + cost.llama_backward_flops(llm, rows, length, supervised, llm.layers, trained_logits=True)


class TowerCounter(StepCounter["PairBatch"]):
    """Of the vision tower's training: both towers, their projections, the pairs' contrast, the phrases."""

    def __init__(self, config: Any, phrases: int, optimizer_step: int = 0) -> None:
        """`config`: a CLIPConfig; `phrases`: those predicted, 0 where their loss is not computed."""
        super().__init__(optimizer_step)
        self._vision = cost.VisionShape.of(config.vision_config)
        self._text = config.text_config
        self._projection, self._phrases = config.projection_dim, phrases

    def batch(self, batch: PairBatch, backward: bool = True) -> int:
        """FLOPs of N pairs: towers, 2 N D E for each projection, 2 N² E of contrast, 2 N P D K of phrases."""
        pairs, length = batch.input_ids.shape
        vision, text = self._vision, self._text
        towers = cost.vision_forward_flops(vision, pairs)
        captions = cost.text_tower_forward_flops(
            text.hidden_size, text.num_hidden_layers, text.intermediate_size, pairs, length
        )
        projected = 2 * pairs * self._projection * (vision.hidden_size + text.hidden_size)
        heads = 2 * pairs * pairs * self._projection
        heads += 2 * pairs * vision.patches * vision.hidden_size * self._phrases
        forward = towers + captions + projected + heads
        if not backward:
            return forward
        return forward + cost.vision_backward_flops(vision, pairs) + 2 * (captions + projected + heads)
