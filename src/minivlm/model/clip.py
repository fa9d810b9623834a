"""A small CLIP, made from nothing: transformers' CLIPModel, a head of phrases for training, a good start.

`N` pictures, `P` patches of each, `D` width of both towers, `K` phrases.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import CLIPModel


def make_clip(
    *,
    image_size: int,
    patch_size: int,
    hidden_size: int,
    layers: int,
    text_layers: int,
    heads: int,
    intermediate_size: int,
    projection_size: int,
    vocabulary: int,
    text_length: int,
    pad_token_id: int,
) -> CLIPModel:
    """A CLIPModel with random weights, its text tower as wide as its vision tower."""
    from transformers import CLIPConfig, CLIPModel

    shared = {
        "hidden_size": hidden_size,
        "num_attention_heads": heads,
        "intermediate_size": intermediate_size,
        "hidden_act": "gelu",
    }
    text = {
        "vocab_size": vocabulary,
        "num_hidden_layers": text_layers,
        "max_position_embeddings": text_length,
        "pad_token_id": pad_token_id,
    }
    # The exact GELU: CLIP's own approximation takes three kernels where this takes one.
    vision = {"image_size": image_size, "patch_size": patch_size, "num_hidden_layers": layers}
    return CLIPModel(
        CLIPConfig(text_config=shared | text, vision_config=shared | vision, projection_dim=projection_size)
    )


class PhraseHead(nn.Module):
    """Which phrases a picture's caption holds: those that at least one of its patches speaks of.

    Each patch answers for itself and the answers are joined by a soft maximum, as in multiple-instance learning.
    So a patch learns to say what is there, and how many of it, in a form that a linear map can read, which is what
    LLaVA needs. Contrast alone trains the class token only.
    """

    def __init__(self, hidden_size: int, frequency: torch.Tensor) -> None:
        """`frequency` (K,): share of the captions that hold each phrase; what the head says before training."""
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.linear = nn.Linear(hidden_size, len(frequency))
        nn.init.normal_(self.linear.weight, std=0.02)
        with torch.no_grad():
            self.linear.bias.copy_(torch.logit(frequency))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Patches (N, P, D) → logits (N, K)."""
        answers = self.linear(self.norm(patches))  # (N, P, K)
        return answers.logsumexp(dim=1) - math.log(patches.shape[1])


@torch.no_grad()
def initialize_tower(tower: Any, pixels: torch.Tensor) -> None:
    """Start a vision tower where it would else spend a third of its training getting to.

    `pixels` (N, 3, side, side): some hundred normalised pictures. Patches are projected onto their principal
    components, whitened; positions start as two-dimensional sines; attention starts out looking at like patches
    and subtracting what it finds (the mimetic initialization of Trockman & Kolter, arXiv:2305.09828).
    """
    config = tower.config
    width, side = config.hidden_size, config.image_size // config.patch_size
    embeddings = tower.embeddings
    embeddings.position_embedding.weight[0] = 0
    embeddings.position_embedding.weight[1:] = 0.3 * _sines(side, width)
    weight = embeddings.patch_embedding.weight  # (D, 3, patch, patch)
    weight.copy_(0.5 * _whitening(pixels, config.patch_size, width).view_as(weight))
    for layer in tower.encoder.layers:
        attention = layer.self_attn
        size = width // config.num_attention_heads
        for head in range(config.num_attention_heads):
            rows = slice(head * size, (head + 1) * size)
            left, values, right = torch.linalg.svd(_near_identity(width, 0.7, 0.7))
            root = values[:size].sqrt()
            attention.q_proj.weight[rows] = (left[:, :size] * root).T
            attention.k_proj.weight[rows] = right[:size] * root[:, None]
        left, values, right = torch.linalg.svd(_near_identity(width, 0.4, -0.4))
        attention.v_proj.weight.copy_(values.sqrt()[:, None] * right)
        attention.out_proj.weight.copy_(left * values.sqrt())


def _near_identity(width: int, noise: float, diagonal: float) -> torch.Tensor:
    return noise * torch.randn(width, width) / math.sqrt(width) + diagonal * torch.eye(width)


def _sines(side: int, width: int) -> torch.Tensor:
    """(side * side, D): half of the width for the row, half for the column."""
    quarter = width // 4
    frequency = 100.0 ** (-torch.arange(quarter) / quarter)
    place = torch.arange(side).float()
    one = torch.cat([torch.sin(place[:, None] * frequency), torch.cos(place[:, None] * frequency)], dim=1)
    result = torch.zeros(side * side, width)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    result[:, : 4 * quarter] = torch.cat([one[rows.flatten()], one[columns.flatten()]], dim=1)
    return result


def _whitening(pixels: torch.Tensor, patch: int, width: int) -> torch.Tensor:
    """(D, 3 * patch * patch): the leading D components of the patches at most, whitened, in a random rotation."""
    patches = functional.unfold(pixels, patch, stride=patch).transpose(1, 2).flatten(0, 1)  # (N * P, 3 patch²)
    patches = (patches - patches.mean(0)).double()
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    values, vectors = values.flip(0)[:width], vectors.flip(1)[:, :width]
    # Of patches that are all alike no component varies: the floor keeps them from a division by zero.
    spread = values.clamp(min=0) + (0.02 * values.mean()).clamp(min=1e-6)
    components = (vectors / spread.sqrt()).T.float()
    rotation, _ = torch.linalg.qr(torch.randn(width, width))
    return rotation[:, : len(components)] @ components
