"""Operations of a training, counted batch by batch as they pass (see `cost` for what is counted)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from minivlm.training import cost

if TYPE_CHECKING:
    from minivlm.config import FreezePolicy
    from minivlm.data.batches import Batch


class OperationCounter:
    """FLOPs of the steps that went through `watch`; validation is not counted."""

    def __init__(self, config: Any, policy: FreezePolicy) -> None:
        """`config`: of a LLaVA model; `policy`: what is trained beside the projector."""
        self._llm = cost.LlamaShape.of(config.text_config)
        vision = cost.VisionShape.of(config.vision_config)
        # Layers above the one that features are taken from are not run.
        self._vision = dataclasses.replace(vision, layers=config.vision_feature_layer % (vision.layers + 1))
        layers = self._llm.layers
        self._trained_layers = {
            "projector": 0, "projector+last_layer": 1, "first_last": min(2, layers), "llm": layers
        }[policy]  # fmt: skip
        self._trained_logits = policy == "llm"
        self.flops = 0

    def watch(self, steps: Iterable[list[Batch]]) -> Iterator[list[Batch]]:
        """The same steps, counted as they are taken."""
        for step in steps:
            for batch in step:
                self.flops += self.batch(batch)
            yield step

    def batch(self, batch: Batch) -> int:
        """FLOPs of a batch, forward and backward, each distinct picture computed once."""
        rows, length = batch.input_ids.shape
        pictures = int(batch.pixels.shape[0])
        llm, vision = self._llm, self._vision
        projector = cost.projector_flops(vision.hidden_size, llm.hidden_size, pictures * vision.patches)
        forward = cost.llama_forward_flops(llm, rows, length, batch.count)
        backward = cost.llama_backward_flops(
            llm, rows, length, batch.count, self._trained_layers, self._trained_logits
        )
        return cost.vision_forward_flops(vision, pictures) + projector + forward + backward
