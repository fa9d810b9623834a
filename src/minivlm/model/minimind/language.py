"""The language model of an original's checkpoint, as transformers' LlamaForCausalLM.

Both compute the same: half-rotation RoPE, RMSNorm, gated feed-forward, tied embeddings, no bias. The older
generation rotated neighbours (2i, 2i + 1) where transformers rotates halves (i, i + size / 2): the rows of its
query and key maps are put in that order, which changes no product of a query with a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.errors import UserError
from minivlm.model.minimind.configuration import Sizes, configure
from minivlm.model.minimind.state import Checkpoint, read_state

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM

PAD_TOKEN_ID = 0  # the original pads with it and has no field for it


def read_llm(checkpoint: Path, config: Mapping[str, Any] | None = None) -> LlamaForCausalLM:
    """The language model of a `llm_*.pth`, or of a `*_vlm_*.pth`, in float32 and inference mode.

    `config`: the original's configuration fields, where they differ from its defaults. UserError for a key that is
    unknown, missing or misshaped, and for a configuration that contradicts the shapes.
    """
    state = read_state(checkpoint)
    return build_llm(state, configure(state, config or {}))


def build_llm(checkpoint: Checkpoint, sizes: Sizes) -> LlamaForCausalLM:
    """A LlamaForCausalLM with the checkpoint's weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.hidden_size,
        intermediate_size=sizes.intermediate_size,
        num_hidden_layers=sizes.num_hidden_layers,
        num_attention_heads=sizes.num_attention_heads,
        num_key_value_heads=sizes.num_key_value_heads,
        head_dim=sizes.head_dim,
        max_position_embeddings=sizes.max_position_embeddings,
        rms_norm_eps=sizes.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": sizes.rope_theta},
        hidden_act=sizes.hidden_act,
        attention_bias=False,
        mlp_bias=False,
        tie_word_embeddings=True,
        pad_token_id=PAD_TOKEN_ID,
        bos_token_id=sizes.bos_token_id,
        eos_token_id=sizes.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    missing, unexpected = model.model.load_state_dict(_halves(checkpoint, sizes.head_dim), strict=True)
    if missing or unexpected:  # strict raises already; a change of torch's must not go by in silence
        raise UserError(f"{checkpoint.path}: {missing} {unexpected}")
    model.tie_weights()
    return model.to(torch.float32).eval()


def _halves(checkpoint: Checkpoint, size: int) -> dict[str, torch.Tensor]:
    """The weights, queries and keys in the order of halves."""
    if not checkpoint.interleaved:
        return checkpoint.llm
    weights = dict(checkpoint.llm)
    for name, weight in weights.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = weight.view(-1, size // 2, 2, weight.shape[1])  # (heads, pairs, 2, D)
            weights[name] = heads.transpose(1, 2).reshape(weight.shape)
    return weights
