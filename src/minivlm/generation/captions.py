"""Pictures to captions, by greedy decoding with a saved LLaVA directory.

Model, processor and chat template are those of the directory. `B` pictures in a batch, `T` tokens of the prompt
with its image tokens, `P` tokens of a picture, `D` width of the language model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from minivlm.generation.prompts import build_prompt, one_question, picture_features, room
from minivlm.generation.speed import Meter
from minivlm.generation.writing import write

if TYPE_CHECKING:
    from PIL import Image


def caption_pictures(
    model: Any,
    processor: Any,
    pictures: Iterable[Image.Image],
    question: str,
    *,
    batch_size: int,
    max_new_tokens: int,
    meter: Meter | None = None,
) -> list[str]:
    """One caption for each picture, in their order: greedy, hence the same on every run.

    The vision tower sees each picture once; every further token costs one step over the key-value cache. A batch
    stops when all its captions have ended. Special tokens in `question` are text. `meter` is told of every token.
    `pictures` that are decoded as they are iterated over are held one at a time. UserError when the model has no
    positions for the question and an answer of `max_new_tokens`.
    """
    captions: list[str] = []
    meter = meter or Meter()
    waiting = iter(pictures)
    while True:
        meter.start()
        features = picture_features(model, processor, islice(waiting, batch_size))  # (B, P, D)
        if not len(features):
            return captions
        # The same question makes prompts of the same length: nothing is padded, neither left nor right.
        asked = build_prompt(processor, one_question(question), features.shape[1])
        room(model, len(asked.ids), max_new_tokens)
        answers = write(model, [asked] * len(features), features, max_new_tokens=max_new_tokens, meter=meter)
        meter.finish(_tokens(answers, model.generation_config.eos_token_id), len(answers))
        said = processor.batch_decode(answers, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        captions += [caption.strip() for caption in said]


def _tokens(answers: Sequence[Sequence[int]], end: int | Sequence[int] | None) -> int:
    """Tokens of all answers, each up to the one that ends it; what follows is padding."""
    ends = {end} if isinstance(end, int) else set(end or ())
    return sum(next((i for i, token in enumerate(ids, 1) if token in ends), len(ids)) for ids in answers)
