"""The sections of the training stages and what all optimization shares."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from minivlm.config.section import Fraction, FreezePolicy, Positive, Precision, Section


class Optimization(Section):
    """Steps of an optimizer with linear warm-up and cosine decay."""

    epochs: Annotated[float, Field(gt=0, le=100_000)] = Field(description="passes over the training rows")
    learning_rate: Annotated[float, Field(gt=0)] = Field(description="peak learning rate")
    min_learning_rate_ratio: Fraction = Field(default=0.05, description="final over peak learning rate")
    warmup_ratio: Fraction = Field(default=0.05, description="share of the steps spent warming up")
    weight_decay: Annotated[float, Field(ge=0)] = Field(default=0.01, description="weight decay of matrices")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(default=1.0, description="gradient clipping")
    precision: Precision = Field(default="auto", description="auto = bf16 where the device has it, else fp32")


class Training(Optimization):
    """One training stage."""

    freeze: FreezePolicy = Field(
        description="named after what is trained beside the projector; all else is frozen; see docs/training.md"
    )
    batch_tokens: Positive = Field(description="tokens in a micro-batch, padding included")
    accumulation: Positive = Field(default=1, description="micro-batches in an optimizer step")
    validations: Positive = Field(description="how often the validation loss is computed")
    compile: bool = Field(default=False, description="torch.compile the layers: a minute more at the start")
    log_steps: Positive = Field(default=10, description="steps between two lines of loss.csv")
