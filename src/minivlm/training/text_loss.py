"""The base language model's objective: answers to prompts in which words take the place of a picture.

`B` rows, `T` tokens, `K` slots of all rows, `W` tokens of a slot, `S` supervised tokens, `D` width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from minivlm.data.text_tasks import TextTaskBatch


class TextTaskLoss(nn.Module):
    """Sum of the negative log-likelihoods of a batch's supervised tokens, in nats, float32."""

    def __init__(self, llm: Any, image_token_id: int) -> None:
        """`llm`: a LlamaForCausalLM."""
        super().__init__()
        self.llm = llm
        self.image_token_id = image_token_id

    def forward(self, batch: TextTaskBatch) -> torch.Tensor:
        """The sum over the S supervised tokens."""
        embed = self.llm.get_input_embeddings()
        filled = (batch.slots >= 0).unsqueeze(-1)  # (K, W, 1)
        # The sum over the root of their number: as long as the embedding of one token, were they independent.
        sketch = (embed(batch.slots.clamp(min=0)) * filled).sum(1) / filled.sum(1).clamp(min=1).sqrt()  # (K, D)
        embeddings = embed(batch.input_ids)
        is_slot = (batch.input_ids == self.image_token_id).unsqueeze(-1)
        embeddings = embeddings.masked_scatter(is_slot, sketch.to(embeddings.dtype))
        hidden_states = self.llm.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        logits = self.llm.lm_head(hidden_states.flatten(0, 1).index_select(0, batch.supervised))
        return functional.cross_entropy(logits.float(), batch.targets, reduction="sum")
