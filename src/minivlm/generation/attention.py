"""Where the language model looks in a picture while it writes an answer: attention weights, read once afterwards.

The answer is given to the model again, behind its prompt, in one forward pass: causal attention makes every token
see what it saw when it was written. Only that pass uses transformers' eager attention, the only one that hands
out its weights.

`L` layers, `H` heads, `T` tokens of prompt and answer, `N` tokens of the answer, `P` tokens of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minivlm.generation.prompts import Prompt, build_prompt, embed, one_question, picture_features

if TYPE_CHECKING:
    import torch
    from PIL import Image


@dataclass(frozen=True)
class AnswerAttention:
    """`weights` (L, N, P) float32: of the attention of the place that writes token n, what goes to the picture's
    token p, the mean over heads; the rest of the 1 goes to text. `spans`: the characters of the answer that a
    token stands for, start and end; tokens that are parts of one character share it."""

    weights: torch.Tensor
    spans: list[tuple[int, int]]

    def of(self, start: int, end: int) -> torch.Tensor:
        """(L, P): the mean over the tokens of the answer's characters `start` to `end`."""
        tokens = [n for n, (first, last) in enumerate(self.spans) if first < end and last > start]
        return self.weights[:, tokens].mean(dim=1)


def answer_attention(
    model: Any, processor: Any, picture: Image.Image, question: str, answer: str
) -> AnswerAttention | None:
    """What each token of `answer` looked at; None where the model has layers without attention weights.

    The answer's ids are those of its text, as they are in training's rows: special tokens in it are text.
    """
    import torch

    encoded = processor.tokenizer(
        answer, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )
    features = picture_features(model, processor, [picture])  # (1, P, D)
    asked = build_prompt(processor, one_question(question), features.shape[1])
    ids: list[int] = list(encoded["input_ids"])
    whole = Prompt([*asked.ids, *ids], [*asked.pictures, *[False] * len(ids)])
    embeddings, mask = embed(model, [whole], features)  # (1, T, D), (1, T)
    with eager_attention(model), torch.inference_mode():
        layers = model(inputs_embeds=embeddings, attention_mask=mask, output_attentions=True).attentions
    if not layers or any(layer is None for layer in layers):
        return None
    # A token is written at the place before it.
    places = torch.arange(len(asked.ids) - 1, len(whole.ids) - 1)
    of_picture = torch.tensor(whole.pictures).nonzero()[:, 0]
    weights = [layer[0].float().mean(dim=0).cpu()[places][:, of_picture] for layer in layers]  # (H, T, T) → (N, P)
    return AnswerAttention(torch.stack(weights), [(start, end) for start, end in encoded["offset_mapping"]])


@contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """For a while the language model attends by transformers' eager implementation, which returns its weights."""
    language_model = model.model.language_model
    before = language_model.config._attn_implementation
    language_model.set_attn_implementation("eager")
    try:
        yield
    finally:
        language_model.set_attn_implementation(before)


def seen_region(size: tuple[int, int], image_processor: Any) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of what the vision tower sees of a picture of `size` (width, height), as shares.

    CLIP's processor brings the shorter edge to its size and crops the middle; one without a crop sees everything.
    """
    crop = getattr(image_processor, "crop_size", None)
    scaled: Any = dict(image_processor.size or {}) if image_processor.do_resize else {}
    edge = scaled.get("shortest_edge")
    if not getattr(image_processor, "do_center_crop", False) or not crop or not edge:
        return (0.0, 0.0, 1.0, 1.0)
    shares = [min(1.0, kept / edge * min(size) / side) for kept, side in zip(_sides(crop), size, strict=True)]
    margins = [(1 - share) / 2 for share in shares]
    return (margins[0], margins[1], 1 - margins[0], 1 - margins[1])


def _sides(crop: Any) -> Sequence[int]:
    return (crop["width"], crop["height"])
