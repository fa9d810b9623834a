"""Language models by somebody else: loaded strictly, proved to fit into LLaVA, given rows for new tokens.

LLaVA reads the last hidden states of the model's inner part and multiplies them by one matrix. A model that does
more with its logits (a scale, a soft cap, a bias) would say other things inside LLaVA than by itself, and is
refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minivlm.errors import UserError
from minivlm.model.checkpoint import load_strictly

# Buffers that older files hold and models compute anew.
ALLOWED = ("*rotary_emb.inv_freq", "*attn.bias", "*attn.masked_bias", "*attention.bias", "*attention.masked_bias")
_CLOSE = 1e-4  # of the largest logit
_ROWS, _LENGTH = 2, 16


def read_decoder(source: Path) -> Any:
    """The causal language model of a transformers directory, float32; UserError when it is none."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from minivlm.model.checkpoint import quiet

    try:
        with quiet():
            config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # whatever a value that nobody thought of makes of it; see load_strictly
        raise UserError(f"{source}: no transformers model: {_one_line(error)}") from None
    if getattr(config, "quantization_config", None) is not None:
        raise UserError(f"{source}: its weights are quantized; take the model that it was made from")
    if config.is_encoder_decoder or hasattr(config, "vision_config"):
        raise UserError(
            f"{source}: {config.model_type} is not a language model that predicts the next token alone"
        )
    return load_strictly(AutoModelForCausalLM, source, ALLOWED, bin_weights=True)


def require_fit(llm: Any, name: str) -> None:
    """UserError unless LLaVA's text path, inner part and one matrix, gives the model's own logits.

    A matrix tied to embeddings that LLaVA would not find is untied: it becomes one of its own.
    """
    try:
        _require_fit(llm, name)
    except UserError:
        raise
    except Exception as error:  # weights were loaded, but with a value of its configuration nothing is computed
        raise UserError(f"{name}: the model cannot be run as its config.json says: {_one_line(error)}") from None


def _require_fit(llm: Any, name: str) -> None:
    from transformers import AutoModel

    llm.config.output_router_logits = False
    family, head = llm.config.model_type, llm.get_output_embeddings()
    with torch.device("meta"):
        inner = AutoModel.from_config(llm.config)
    if type(inner) is not type(llm.base_model):
        raise UserError(f"{name}: LLaVA cannot hold {family}: what it would load is a {type(inner).__name__}")
    if not isinstance(head, nn.Linear) or head.bias is not None:
        raise UserError(f"{name}: LLaVA cannot hold {family}: its logits are not one matrix without bias")
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(llm.config.vocab_size, (_ROWS, _LENGTH), generator=generator)
    with torch.inference_mode():
        own = llm(ids, use_cache=False).logits
        embeddings = llm.get_input_embeddings()(ids)
        found = head(llm.base_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state)
    worst = float((own - found).abs().max())
    if not worst <= _CLOSE * max(1.0, float(own.abs().max())):
        raise UserError(
            f"{name}: LLaVA cannot hold {family}: it does more with its logits than one matrix does; they would "
            f"be off by {worst:.2g}"
        )
    embeds = llm.get_input_embeddings().weight
    if head.weight is embeds and getattr(llm.base_model, "embed_tokens", None) is not llm.get_input_embeddings():
        head.weight = nn.Parameter(embeds.detach().clone())
        llm.config.tie_word_embeddings = False


@torch.no_grad()
def grow(llm: Any, placed: Mapping[str, int]) -> None:
    """Give new tokens, token → id, the mean of all rows, in embedding and logits; rows are added as needed."""
    if not placed:
        return
    embeddings, head = llm.get_input_embeddings(), llm.get_output_embeddings()
    before = embeddings.weight.shape[0]
    tied = head.weight is embeddings.weight
    means = [embeddings.weight.mean(0), head.weight.mean(0)]
    if max(placed.values()) >= before:
        llm.resize_token_embeddings(max(placed.values()) + 1, mean_resizing=False)
        embeddings, head = llm.get_input_embeddings(), llm.get_output_embeddings()
    for number in placed.values():
        embeddings.weight[number] = means[0]
        if not tied:
            head.weight[number] = means[1]


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
