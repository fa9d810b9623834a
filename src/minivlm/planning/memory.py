"""Memory of a training: an upper bound from shapes, part by part.

Legend: `n` tokens of a micro-batch, padding included (at most batch_tokens), `S` supervised ones (at most n), `T`
tokens of the longest row, `N` pictures (at most n / image tokens); of the language model `D` width, `K` width of
keys, `F` of the feed-forward part, `L` layers, `H` heads, `V` vocabulary; of the tower `W` width, `G` feed-forward
width, `P` patches, `s` side of a picture; `c` bytes of a number in the precision of the products: 4, with bf16 2.
In bytes:

    weights       4 all          gradients  4 trained      optimizer  8 trained (AdamW's two averages)
    kept states   8 trained      (the best and the last weights, on the CPU)
    low precision 2 all          (bf16 alone: autocast keeps a copy of each matrix for the backward pass)
    activations   L n (16 D + c (8 D + 2 K + 4 F) + 4 H + c H T'), with bf16 8 D for the 16 D
        what a Llama layer keeps for its backward pass: two norms with input and result in fp32, or with bf16 the
        normalized input alone (minivlm.model.norms); inputs of its products, queries, keys, values; gate, its
        SiLU, up, their product; the attention's log-sums; T' is T, at most 512, with bf16 on a CPU, where shorter
        rows keep their scores (minivlm.model.attention), else 0
    backward      n (16 D + 16 F + c H T')                   one layer's gradients, at its widest
    logits        S V (12 + 2 c)                             logits, in fp32, their log-softmax and gradients
    pictures      N (27 s² + (P + 1) (20 W + 2 c (4 W + 2 G))) + N P (4 + c) (W + D)
        pixels as bytes, floats and normalised; one tower layer, of which nothing is kept; features and projections
    libraries     700 MiB         torch, transformers, pyarrow and MLflow in one process

Whole processes on a CPU took 0.6 to 0.8 of it at the sizes of profile 26m-random. A GPU holds all but kept states
and libraries; CUDA's own context, some hundred MiB, is not in it. Under policies that train less, layers keep less
than this says. Elsewhere attention has no T² term: torch computes scaled_dot_product_attention in blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minivlm.training.cost import EXPERTS

LIBRARIES = 700 << 20
_ATTENTION_ROWS = 512  # minivlm.model.attention.LONGEST, which imports torch


@dataclass(frozen=True)
class Batch:
    """The largest micro-batch: tokens with padding, supervised ones, tokens of the longest row, pictures."""

    tokens: int
    supervised: int
    longest: int
    pictures: int


def training_memory(
    tower: Any, llm: Any, *, saved: int, trained: int, batch: Batch, precision: str, device: str
) -> dict[str, int]:
    """Bytes by part, at most; `precision` fp32 or bf16, `device` as torch names it. ValueError for experts."""
    low = precision == "bf16"
    c = 2 if low else 4
    scores = min(batch.longest, _ATTENTION_ROWS) if low and device == "cpu" else 0
    n, width, layers = batch.tokens, llm.hidden_size, llm.num_hidden_layers
    heads, inner = llm.num_attention_heads, feed_forward(llm)
    kept = c * heads * scores
    layer = (8 if low else 16) * width + c * (8 * width + 2 * key_width(llm) + 4 * inner) + 4 * heads + kept
    return {
        "weights": 4 * saved,
        "gradients": 4 * trained,
        "optimizer": 8 * trained,
        "kept_states": 8 * trained,
        "low_precision": 2 * saved if low else 0,
        "activations": layers * n * layer,
        "backward": n * (16 * width + 16 * inner + kept),
        "logits": batch.supervised * llm.vocab_size * (12 + 2 * c),
        "pictures": picture_memory(tower, batch.pictures, width, c),
        "libraries": LIBRARIES,
    }


def picture_memory(tower: Any, pictures: int, width: int, c: int) -> int:
    """Bytes of the frozen tower and the projector over some pictures, at most."""
    side, patches = tower.image_size, (tower.image_size // tower.patch_size) ** 2
    vision = tower.hidden_size
    layer = (patches + 1) * (20 * vision + 2 * c * (4 * vision + 2 * tower.intermediate_size))
    return int(pictures * (27 * side**2 + layer + patches * (4 + c) * (vision + width)))


def generation_memory(tower: Any, llm: Any, *, saved: int, rows: int, length: int, c: int) -> dict[str, int]:
    """Bytes of captioning and of computing losses of `rows` rows of `length` tokens at most, without gradients."""
    n, width, inner = rows * length, llm.hidden_size, feed_forward(llm)
    return {
        "weights": c * saved,
        "key_value_cache": 2 * c * llm.num_hidden_layers * n * key_width(llm),
        "activations": n * (16 * width + c * (8 * width + 2 * key_width(llm) + 4 * inner)),
        "logits": n * llm.vocab_size * (8 + c),
        "pictures": picture_memory(tower, rows, width, c),
        "libraries": LIBRARIES,
    }


def key_width(llm: Any) -> int:
    """Width of keys, and of values."""
    heads = llm.num_attention_heads
    size = getattr(llm, "head_dim", None) or llm.hidden_size // heads
    return int(size * (getattr(llm, "num_key_value_heads", None) or heads))


def feed_forward(llm: Any) -> int:
    """Width of the feed-forward part. ValueError for experts, which this bound does not know."""
    experts = next((name for name in EXPERTS if getattr(llm, name, None)), "")
    if experts:
        raise ValueError(f"the bound is of dense models; {llm.model_type} has {experts}")
    return int(llm.intermediate_size)


def on_device(parts: dict[str, int]) -> dict[str, int]:
    """The parts that a GPU holds."""
    return {name: count for name, count in parts.items() if name not in ("kept_states", "libraries")}


def beside_device(parts: dict[str, int]) -> dict[str, int]:
    """The parts that the process holds beside a GPU; the weights pass through it when they are loaded."""
    return {name: parts[name] for name in ("weights", "kept_states", "libraries") if name in parts}


def gpu_bytes(device: str) -> int:
    """Memory of a GPU."""
    import torch

    return int(torch.cuda.get_device_properties(device).total_memory)
