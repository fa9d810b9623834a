"""Muon for the matrices of hidden layers, AdamW for the rest: what the small base models are trained with.

Muon (Jordan et al., 2024) replaces a matrix's momentum by the nearest orthogonal matrix, so that every direction
learns at one pace. From random weights that takes about half the samples AdamW takes here (docs/experiments.md);
the stages that go on from trained weights keep AdamW.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from minivlm.device import resolve_precision

MOMENTUM = 0.95
BETAS = (0.9, 0.98)
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton–Schulz iteration, from Muon's author
_ITERATIONS = 5
_RMS = 0.2  # root mean square of an AdamW update: one learning rate then fits both (Moonlight, arXiv:2502.16982)


def orthogonalized(matrices: torch.Tensor) -> torch.Tensor:
    """(M, rows, columns) → about U Vᵀ of each, singular values between 0.7 and 1.2: Newton–Schulz, all at once."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x.to(_precision(x.device))
    for _ in range(_ITERATIONS):
        gram = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)  # a x + (b gram + c gram²) x, scaled within the products
    return (x.mT if tall else x).to(matrices.dtype)


@lru_cache
def _precision(device: torch.device) -> torch.dtype:
    """bf16 where it is faster: the iteration corrects its own rounding (five times on CPUs with bf16 products)."""
    return torch.bfloat16 if resolve_precision("auto", str(device)) == "bf16" else torch.float32


class Muon(torch.optim.Optimizer):
    """Muon over matrices (rows, columns); matrices of one shape are updated together."""

    def __init__(self, matrices: list[nn.Parameter], weight_decay: float) -> None:
        super().__init__([{"params": matrices}], {"lr": 0.0, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update; the closure, which torch's interface has, is not used."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                updates = [self._momentum(parameter) for parameter in parameters]
                scale = group["lr"] * _RMS * max(shape) ** 0.5
                for parameter, update in zip(parameters, orthogonalized(torch.stack(updates)), strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=scale)

    def _momentum(self, parameter: nn.Parameter) -> torch.Tensor:
        """Nesterov momentum of the gradient."""
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        assert parameter.grad is not None
        state["momentum"].lerp_(parameter.grad, 1 - MOMENTUM)
        return parameter.grad.lerp(state["momentum"], MOMENTUM)


def hidden_matrices(module: nn.Module, outputs: Iterable[nn.Module] = ()) -> list[nn.Parameter]:
    """The trained matrices that Muon takes: none of embeddings, nor of the parts `outputs`."""
    embeddings = [m.weight for m in module.modules() if isinstance(m, nn.Embedding)]
    excepted = {id(p) for p in [*embeddings, *(p for part in outputs for p in part.parameters())]}
    return [p for p in module.parameters() if p.requires_grad and p.ndim == 2 and id(p) not in excepted]


class MuonWithAdamW(torch.optim.Optimizer):
    """Both as one optimizer, for the loop: one learning rate, one step."""

    def __init__(self, module: nn.Module, weight_decay: float, outputs: Iterable[nn.Module] = ()) -> None:
        """`outputs`: parts of `module` whose matrices are left to AdamW, as embeddings are."""
        trained = [p for p in module.parameters() if p.requires_grad]
        matrices = hidden_matrices(module, outputs)
        theirs = {id(p) for p in matrices}
        others = [p for p in trained if id(p) not in theirs]
        self.parts: list[Any] = [Muon(matrices, weight_decay)]
        if others:
            self.parts.append(torch.optim.AdamW(others, lr=0.0, betas=BETAS, weight_decay=0.0, fused=True))
        super().__init__(trained, {"lr": 0.0})
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of both parts."""
        # Accelerate replaces the groups by copies of them: what the loop set there is handed on.
        own = (group for part in self.parts for group in part.param_groups)
        for group, set_by_loop in zip(own, self.param_groups, strict=True):
            group["lr"] = set_by_loop["lr"]
        for part in self.parts:
            part.step()
