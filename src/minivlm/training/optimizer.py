"""What is trained and how: freeze policies, AdamW parameter groups, the trained state.

Names are those of transformers' LlavaForConditionalGeneration. The vision tower and the second linear map of the
projector (an identity) are frozen under every policy; the first linear map is always trained.

| policy | trained beside the projector |
|---|---|
| `projector` | nothing |
| `projector+last_layer` | the last layer of the language model |
| `first_last` | its first and its last layer |
| `llm` | the whole language model: embeddings, final norm, and the logits' matrix where it is one of its own |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

    from minivlm.config import FreezePolicy

_PROJECTOR = "model.multi_modal_projector.linear_1."
_LLM = "model.language_model."
BETAS = (0.9, 0.95)
"""Decay of AdamW's averages, as the LLaMA papers have them (arXiv:2302.13971, section 2.3)."""


def is_trained(policy: FreezePolicy, layers: int, stack: str = "layers") -> Callable[[str], bool]:
    """The predicate on parameter names that a policy means for a language model of `layers` layers.

    `stack`: the name of the list of layers within the language model; Llama and its like call it `layers`.
    """
    chosen = {
        "projector": (),
        "projector+last_layer": (f"{_LLM}{stack}.{layers - 1}.",),
        "first_last": (f"{_LLM}{stack}.0.", f"{_LLM}{stack}.{layers - 1}."),
        "llm": (_LLM, "lm_head."),
    }[policy]
    return lambda name: name.startswith((_PROJECTOR, *chosen))


def freeze(model: nn.Module, policy: FreezePolicy) -> dict[str, int]:
    """Set `requires_grad` of a LLaVA model's parameters; returns name → number of weights of the trained ones.

    Tied weights (embeddings and logits) count once, under the embeddings' name. UserError when the language model
    has no list of layers to choose from.
    """
    from minivlm.model.layers import layer_stack

    config: Any = model.config
    layers = config.text_config.num_hidden_layers
    trained = is_trained(policy, layers, layer_stack(model.get_submodule(_LLM.rstrip(".")), layers))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained(name))
    return {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Name → parameter of what is trained, in the module's order."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's groups: matrices decay; norms, biases, single numbers and embeddings do not."""
    from torch import nn

    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for parameter in trained_parameters(module).values():
        (spared if parameter.ndim < 2 or id(parameter) in embeddings else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def adamw(module: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over the trained parameters, in one fused kernel; the loop sets the learning rate of every step.

    ValueError when nothing is trained.
    """
    import torch

    groups = parameter_groups(module, weight_decay)
    if not groups:
        raise ValueError("no parameter is trained")
    fused = all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])
    return torch.optim.AdamW(groups, lr=0.0, betas=BETAS, fused=fused)


def restore_state(module: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Put a state of `resume.trained_state` back; KeyError when it names other parameters than are trained."""
    import torch

    parameters = trained_parameters(module)
    if parameters.keys() != state.keys():
        raise KeyError(f"state and model differ in {sorted(parameters.keys() ^ state.keys())}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])
