"""Prompts with their pictures → the ids that a model answers: the one place that calls transformers' `generate`.

Captions in batches, a chat, a served answer: all are written here, so that the same picture and question have the
same words everywhere. `B` prompts, `P` tokens of a picture, `D` width of the language model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minivlm.errors import UserError
from minivlm.generation.prompts import Prompt, embed
from minivlm.generation.speed import Meter

if TYPE_CHECKING:
    import torch

COLDEST = 0.01  # temperature below which logits divided by it may be no numbers any more


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. `temperature` below 0.01: always the most probable one. Above it one is drawn from
    the most probable ones that together have the probability `top_p`; the same `seed` draws the same."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        """UserError for what is no temperature, share or seed."""
        if not 0 <= self.temperature <= 100:
            raise UserError(f"temperature {self.temperature:g}: give 0 (the most probable token) to 100")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p {self.top_p:g}: give a share of probability, above 0 and at most 1")
        if self.seed is not None and not 0 <= self.seed < 1 << 63:
            raise UserError(f"seed {self.seed}: give a whole number from 0 to 2^63 - 1")

    @property
    def greedy(self) -> bool:
        """Whether nothing is drawn."""
        return self.temperature < COLDEST

    def options(self) -> dict[str, Any]:
        """The same for `generate`; `top_k` is spelt out, or transformers would cut at 50."""
        if self.greedy:
            return {"do_sample": False}
        return {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p, "top_k": 0}

    @contextmanager
    def seeded(self, device: Any) -> Iterator[None]:
        """Within it torch draws from `seed`, or from a fresh one; after it, as if nothing had been drawn."""
        import torch

        if self.greedy:
            yield
            return
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            if self.seed is None:
                torch.seed()
            else:
                torch.manual_seed(self.seed)
            yield


GREEDY = Sampling()


def write(
    model: Any,
    prompts: Sequence[Prompt],
    features: torch.Tensor,
    *,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    meter: Meter | None = None,
    more: Callable[[torch.Tensor], bool] | None = None,
) -> list[list[int]]:
    """The ids of each answer, padded behind the token that ends it to the length of the longest.

    `features`: (pictures, P, D), as picture_features returns them. `meter` is told of every token; `more`, of
    a single prompt, is told all ids so far, (N,), after each one, and says whether to go on.
    """
    import torch

    def stop(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        assert more is not None
        return torch.full((1,), not more(ids[0]), dtype=torch.bool, device=ids.device)

    embeddings, mask = embed(model, prompts, features)  # (B, T, D), (B, T)
    with torch.inference_mode(), sampling.seeded(model.device):
        answers = model.generate(  # (B, new tokens)
            inputs_embeds=embeddings,
            attention_mask=mask,
            num_beams=1,
            use_cache=True,
            max_new_tokens=max_new_tokens,
            streamer=meter,
            stopping_criteria=[stop] if more else None,
            **sampling.options(),
        )
    ids: list[list[int]] = answers.tolist()
    return ids
