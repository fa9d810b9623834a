"""Pictures to captions, by greedy decoding with a saved LLaVA directory.

Model, processor and chat template are those of the directory. `B` pictures in a batch, `T` tokens of the prompt
with its image tokens, `P` tokens of a picture, `D` width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.config.section import Precision
from minivlm.device import resolve_device, resolve_precision
from minivlm.errors import UserError
from minivlm.evaluation.prompts import build_prompt, embed, one_question, picture_features

if TYPE_CHECKING:
    from PIL import Image


def load_model(directory: Path, device: str = "cpu", precision: Precision = "fp32") -> tuple[Any, Any]:
    """(model in inference mode, processor) of a LLaVA directory.

    `device`: auto, cpu, cuda or cuda:N; `precision`: fp32, bf16 or auto, both as `minivlm.device` resolves them.
    UserError when there is no such device, no model in the directory, or when its weights are not exactly the
    model's: transformers would fill the gaps with random numbers and go on.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from minivlm.model.checkpoint import quiet

    if not (directory / "config.json").is_file():
        raise UserError(f"{directory}: no model there; run the stage that makes it")
    device = resolve_device(device)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[resolve_precision(precision, device)]
    with quiet():
        try:
            model, keys = AutoModelForImageTextToText.from_pretrained(
                directory, dtype=dtype, output_loading_info=True
            )
            processor = AutoProcessor.from_pretrained(directory)
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"{directory}: damaged model: {' '.join(str(error).split())}; make it anew") from None
    wrong = [f"{name}: {', '.join(sorted(map(str, found)))}" for name, found in keys.items() if found]
    if wrong:
        raise UserError(f"{directory}: weights do not fit the model: {'; '.join(wrong)}")
    return model.to(device).eval(), processor


def caption_pictures(
    model: Any,
    processor: Any,
    pictures: Sequence[Image.Image],
    question: str,
    *,
    batch_size: int,
    max_new_tokens: int,
) -> list[str]:
    """One caption for each picture, in their order: greedy, hence the same on every run.

    The vision tower sees each picture once; every further token costs one step over the key-value cache. A batch
    stops when all its captions have ended. Special tokens in `question` are text.
    """
    import torch

    captions: list[str] = []
    for start in range(0, len(pictures), batch_size):
        features = picture_features(model, processor, pictures[start : start + batch_size])  # (B, P, D)
        # The same question makes prompts of the same length: nothing is padded, neither left nor right.
        asked = build_prompt(processor, one_question(question), features.shape[1])
        embeddings, mask = embed(model, [asked] * len(features), features)  # (B, T, D), (B, T)
        with torch.inference_mode():
            answers = model.generate(  # (B, new tokens)
                inputs_embeds=embeddings,
                attention_mask=mask,
                do_sample=False,
                num_beams=1,
                use_cache=True,
                max_new_tokens=max_new_tokens,
            )
        captions += processor.batch_decode(answers, skip_special_tokens=True)
    return [caption.strip() for caption in captions]
