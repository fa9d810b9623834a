"""The layers of a LLaVA's two halves, found in whichever family they are of, and compiled."""

from __future__ import annotations

from typing import Any

from torch import nn

from minivlm.errors import UserError


def layer_stack(decoder: nn.Module, layers: int) -> str:
    """The name of a decoder's list of its `layers` layers: `layers`, `h`, `decoder.layers` …, by family.

    UserError when it has none.
    """
    found = [n for n, m in decoder.named_modules() if isinstance(m, nn.ModuleList) and len(m) == layers]
    if not found:
        raise UserError(f"the language model, a {type(decoder).__name__}, has no list of {layers} layers")
    return min(found, key=lambda name: name.count("."))  # within a layer there may be lists too: of experts


def decoder_layers(model: Any) -> list[nn.Module]:
    """The layers of a LLaVA's language model."""
    decoder = model.model.language_model
    return list(decoder.get_submodule(layer_stack(decoder, model.config.text_config.num_hidden_layers)))


def compile_layers(model: Any) -> None:
    """Let torch.compile make the kernels of a LLaVA's layers, once for each kind of layer and for all shapes.

    Layer by layer, because a whole model would be compiled anew for each of its shapes; and with rows, tokens and
    pictures as unknowns (`dynamic`), so that the number of kernels does not depend on the data. What is saved
    stays the same. Kernels are made in the first steps, which take longer by that.
    """
    for layer in (*model.model.vision_tower.encoder.layers, *decoder_layers(model)):
        layer.compile(dynamic=True)
