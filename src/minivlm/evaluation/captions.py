"""Pictures to captions, by greedy decoding with a saved LLaVA directory.

Model, processor and chat template are those of the directory. `B` pictures in a batch, `T` tokens of the prompt
with its image tokens, `P` tokens of a picture, `D` width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.device import resolve_device, resolve_precision
from minivlm.errors import UserError
from minivlm.evaluation.prompts import build_prompt, embed, one_question, picture_features
from minivlm.token_ids import check_numbers

_MOST_RESIZED = 4  # a picture's shorter edge over what the tower takes: 256 of 224 pixels is common

if TYPE_CHECKING:
    from PIL import Image

    from minivlm.config.section import Precision


def load_model(directory: Path, device: str = "cpu", precision: Precision = "fp32") -> tuple[Any, Any]:
    """(model in inference mode, processor) of a LLaVA directory.

    `device`: auto, cpu, cuda or cuda:N; `precision`: fp32, bf16 or auto, both as `minivlm.device` resolves them.
    UserError when there is no such device, no model in the directory, when its weights are not exactly the model's
    (transformers would fill the gaps with random numbers and go on), or when a file of it was exchanged.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    from minivlm.model.checkpoint import load_strictly
    from minivlm.model.fingerprint import check_files

    device = resolve_device(device)
    check_files(directory)
    model = load_strictly(AutoModelForImageTextToText, directory)
    processor = load_processor(directory, model)
    if resolve_precision(precision, device) == "bf16":
        for parameter in model.parameters():  # not the rotary tables, which transformers keeps in float32 too
            parameter.data = parameter.data.to(torch.bfloat16)
    return model.to(device), processor


def load_processor(directory: Path, model: Any) -> Any:
    """The processor of a LLaVA directory; UserError when it is damaged, or not one of this model's.

    Where no fingerprint tells, two blank pictures and a question do: they have to give the model what it takes.
    """
    from PIL import Image
    from transformers import AutoProcessor

    from minivlm.model.checkpoint import quiet

    tokenizer = directory / "tokenizer.json"
    if tokenizer.is_file():
        check_numbers(tokenizer.read_bytes(), str(tokenizer))
    try:
        with quiet():
            processor = AutoProcessor.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        pictures = processor.image_processor
        largest = max(_numbers(pictures.size) + _numbers(getattr(pictures, "crop_size", None)), default=0)
        if largest > _MOST_RESIZED * model.config.vision_config.image_size:
            raise ValueError(f"pictures are made {largest} pixels wide")
        known = model.config.get_text_config().vocab_size
        if len(processor.tokenizer) > known:
            raise ValueError(f"{len(processor.tokenizer)} tokens, and the model knows {known}")
        blank = [Image.new("RGB", (9, 8)), Image.new("RGB", (8, 9))]
        caption_pictures(model, processor, blank, "?", batch_size=2, max_new_tokens=1)
    except Exception as error:
        # Whatever transformers, the tokenizer or the model makes of files that do not belong together.
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            f"{directory}: its processor is damaged or not that of its model: {said}; make it anew"
        ) from error
    return processor


def _numbers(size: Any) -> list[int]:
    """The sides in a processor's `size` or `crop_size`."""
    return [int(value) for value in dict(size or {}).values() if value]


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
