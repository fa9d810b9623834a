"""Attention in bf16 on a CPU, where torch's own kernel is slow, above all backward.

`B` rows, `H` query heads in `K` groups of `R` that share keys and values, `T` tokens, `D` size of a head.

torch 2.13's scaled_dot_product_attention takes 52 ms forward and backward on one core for B 64, H 6, T 64, D 32 in
bf16, 15 ms in fp32; batched matrix products with a softmax between take 7 ms. Forward alone, as frozen towers run
(B 16, H 12, T 197, D 64), it takes 31 ms, the products 16 to 19. Everywhere else (fp32, a GPU, an attention mask,
long rows, whose scores would fill the memory) transformers' own `sdpa` is called.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "minivlm_matmul"
MASKED = f"{NAME}_masked"  # the same for models that need a mask
# transformers' families (model_type) whose attention is nothing but this: no soft cap, no sinks, no position bias.
PLAIN = (
    *("llama", "mistral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe"),
    *("clip", "clip_text_model", "clip_vision_model", "siglip_vision_model"),
)
LONGEST = 512  # tokens


def use_matmul_attention(model: Any) -> None:
    """Let a transformers model of a PLAIN family attend by `matmul_attention`; what is saved stays the same.

    Others keep their own. It is for rows that are padded on the right at most: a mask given to the model is not
    looked at, and none is made. transformers would otherwise look for packed rows in every batch, for which a GPU
    has to be waited for. A window narrower than a row does come as a mask, which `sdpa` gets.
    """
    if model.config.model_type not in PLAIN:
        return
    AttentionInterface.register(NAME, matmul_attention)
    AttentionInterface.register(MASKED, matmul_attention)
    AttentionMaskInterface.register(MASKED, sdpa_mask)
    model.set_attn_implementation(MASKED if getattr(model.config, "sliding_window", None) else NAME)


def matmul_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Query (B, H, T, D), key and value (B, K, T, D) → (B, T, H, D): transformers' attention interface."""
    length, size = query.shape[2:]
    if attention_mask is not None or dropout or length > LONGEST or key.shape[2] != length or not _slow(query):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **others
        )
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    rows, heads, groups = query.shape[0], query.shape[1], key.shape[1]
    # The heads of a group lie side by side, so they can stand below each other as R * T queries to the same keys.
    repeats = heads // groups
    with torch.autocast("cpu", enabled=False):  # which would take the softmax, and with it the scores, to fp32
        q, k, v = (
            each.to(torch.bfloat16).reshape(rows * groups, -1, size) for each in (query, key, value)
        )  # (B K, R T, D), (B K, T, D) twice
        scale = size**-0.5 if scaling is None else scaling
        mask = q.new_full((length, length), float("-inf")).triu(1).repeat(repeats, 1) if causal else q.new_zeros(1)
        scores = torch.baddbmm(mask, q, k.transpose(1, 2), beta=int(causal), alpha=scale)  # (B K, R T, T)
        output = torch.bmm(scores.softmax(-1), v).view(rows, heads, length, size)
    return output.transpose(1, 2).contiguous(), None


def _slow(query: torch.Tensor) -> bool:
    """Whether torch's kernel would run in bf16 on a CPU."""
    if query.device.type != "cpu":
        return False
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16
    return query.dtype == torch.bfloat16
