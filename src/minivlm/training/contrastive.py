"""The vision tower's objective: contrast of pictures and captions, plus the phrases of each caption.

`N` pairs of a batch, `T` tokens of the longest caption, `D` width of the towers, `E` of the shared space,
`K` phrases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from minivlm.model.attention import use_matmul_attention
from minivlm.model.clip import PhraseHead

LUMA = (0.299, 0.587, 0.114)  # brightness of red, green and blue (ITU-R BT.601)
MAX_LOGIT_SCALE = 100.0  # CLIP's own bound (arXiv:2103.00020, section 2.5)


@dataclass(frozen=True)
class PairBatch:
    """Pictures and a caption for each; captions begin and end with their special tokens, padded on the right."""

    pixels: torch.Tensor  # (N, 3, side, side) uint8
    input_ids: torch.Tensor  # (N, T) int64
    lengths: torch.Tensor  # (N,) int64
    phrases: torch.Tensor  # (N, most phrases of a caption) int64, filled up with K

    @property
    def samples(self) -> int:
        """Pairs."""
        return len(self.pixels)

    @property
    def count(self) -> int:
        """Terms that the loss is a mean of: pairs."""
        return len(self.pixels)

    @property
    def tokens(self) -> int:
        """Caption tokens without padding."""
        return int(self.lengths.sum())

    @property
    def padded_tokens(self) -> int:
        """Caption tokens computed."""
        return int(self.input_ids.numel())

    def to(self, device: Any) -> PairBatch:
        """The same batch on a device."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


class TowerLoss(nn.Module):
    """Sum over the pairs of: contrastive loss + `phrase_weight` x binary cross-entropy over the K phrases."""

    def __init__(
        self,
        clip: Any,
        phrase_frequency: torch.Tensor,
        phrase_weight: float,
        grayscale: float,
        image_mean: Sequence[float],
        image_std: Sequence[float],
    ) -> None:
        """`clip`: a CLIPModel; mean and deviation of the pixels by channel, of values from 0 to 1.

        `grayscale`: share of the pictures that lose their colours in training. A tower that has seen every shape
        without its colour knows it again in a colour that is new to it.
        """
        super().__init__()
        self.scale: torch.Tensor
        self.shift: torch.Tensor
        self.clip = clip
        use_matmul_attention(clip)
        self.head = PhraseHead(clip.config.vision_config.hidden_size, phrase_frequency)
        self.phrase_weight, self.grayscale = phrase_weight, grayscale
        std = torch.tensor(image_std).view(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -torch.tensor(image_mean).view(1, 3, 1, 1) / std, persistent=False)

    def normalized(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 pixels as the tower wants them."""
        return pixels * self.scale + self.shift

    def some_in_gray(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (N, 3, side, side) → as `normalized`, a random share of the pictures in gray: one product for all.

        A picture's colours go through a matrix of its own (3, 3): the identity, or three times the brightness.
        """
        gray = pixels.new_tensor(LUMA, dtype=torch.float32).expand(3, 3)
        chosen = torch.rand(len(pixels), 1, 1, device=pixels.device) < self.grayscale
        colours = torch.where(chosen, gray, torch.eye(3, device=pixels.device))  # (N, 3, 3)
        colours = colours * self.scale.view(3, 1)
        with torch.autocast(pixels.device.type, enabled=False):
            values = torch.bmm(colours, pixels.flatten(2).float()).add_(self.shift.view(1, 3, 1))
        return values.view(pixels.shape)

    def forward(self, batch: PairBatch) -> torch.Tensor:
        """The sum over the N pairs."""
        clip = self.clip
        gray = self.training and self.grayscale
        pixels = self.some_in_gray(batch.pixels) if gray else self.normalized(batch.pixels)
        seen = clip.vision_model(pixel_values=pixels)
        states = clip.text_model(input_ids=batch.input_ids).last_hidden_state  # (N, T, D), causal
        # CLIPTextModel takes the largest id for the end token where that token's id is 2, as ours is: not used.
        last = states[torch.arange(len(states), device=states.device), batch.lengths - 1]
        pictures = functional.normalize(clip.visual_projection(seen.pooler_output).float(), dim=-1)  # (N, E)
        texts = functional.normalize(clip.text_projection(last).float(), dim=-1)  # (N, E)
        similarity = pictures @ texts.T * clip.logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)
        pairs = torch.arange(len(similarity), device=similarity.device)
        loss = (
            functional.cross_entropy(similarity, pairs, reduction="sum")
            + functional.cross_entropy(similarity.T, pairs, reduction="sum")
        ) / 2
        if not self.phrase_weight or not self.head.linear.out_features:
            return loss
        logits = self.head(seen.last_hidden_state[:, 1:]).float()  # (N, K)
        target = logits.new_zeros(len(logits), logits.shape[1] + 1).scatter_(1, batch.phrases, 1.0)[:, :-1]
        phrases = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        return loss + self.phrase_weight * phrases
