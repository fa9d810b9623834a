"""Frozen weights in the precision of the products that read them.

Autocast keeps a weight's low-precision copy for the rest of a step only where the weight is trained; a frozen one
it converts anew for every product. At full size that is 86 million weights of the tower, and 26 million more in
pretrain, in every micro-batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_CONVERTED = (nn.Linear, nn.Conv2d)  # what autocast converts the weights of, in the models that are held here
_LOW = {"bf16": torch.bfloat16, "fp32": None}


@contextmanager
def frozen_in(model: nn.Module, precision: str) -> Iterator[None]:
    """While inside, frozen weights of a model's products are in `precision`; then the very tensors from before.

    In fp32 nothing is done; in bf16, under autocast, every result stays the same to the bit. Weights that an
    embedding shares are left alone: what is looked up in them is not converted. The tensors from before stay where
    they are, so a model that is moved to a GPU takes half the memory there.
    """
    dtype = _LOW[precision]
    if dtype is None:
        yield
        return
    shared = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    frozen = [
        parameter
        for module in model.modules()
        if isinstance(module, _CONVERTED)
        for parameter in module.parameters(recurse=False)
        if not parameter.requires_grad and id(parameter) not in shared
    ]
    before = [parameter.data for parameter in frozen]
    for parameter in frozen:
        parameter.data = parameter.data.to(dtype)
    try:
        yield
    finally:
        for parameter, data in zip(frozen, before, strict=True):
            parameter.data = data
