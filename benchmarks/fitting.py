"""This project's training loop over batches that a benchmark hands it, with the settings of the original."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def fit_stream(ours: Any, stream: Iterator[list[Any]], steps: int, *, learning_rate: float, label: str) -> None:
    """Take `steps` steps of `ours` (a `sides.Ours`) from the stream; nothing is validated or logged."""
    from minivlm.training.loop import fit

    fit(
        ours.objective,
        stream,
        total_steps=steps,
        learning_rate=learning_rate,
        min_learning_rate_ratio=0.1,
        warmup_ratio=0.0,
        weight_decay=0.01,
        max_grad_norm=1.0,
        precision=ours.precision,
        device=ours.device,
        validate=None,
        validations=1,
        log_steps=steps,
        on_log=lambda step, metrics: None,
        label=label,
        price_per_hour=None,
    )
