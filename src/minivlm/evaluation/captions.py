"""Pictures to captions, by greedy decoding with a saved LLaVA directory.

Needs nothing of this project: `AutoModelForImageTextToText`, `AutoProcessor` and the chat template saved with
them. `B` pictures in a batch, `T` tokens of the prompt with its image tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.errors import UserError

if TYPE_CHECKING:
    from PIL import Image


def load_model(directory: Path, device: str = "cpu", precision: str = "fp32") -> tuple[Any, Any]:
    """(model in inference mode, processor) of a LLaVA directory.

    `device`: auto, cpu, cuda or cuda:N; `precision`: fp32, bf16 or auto, which is bf16 on a GPU that computes
    in it. UserError when there is no model in the directory, or when its weights are not exactly the model's:
    transformers would fill the gaps with random numbers and go on.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from minivlm.model.checkpoint import quiet

    if not (directory / "config.json").is_file():
        raise UserError(f"{directory}: no model there; run the stage that makes it")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "auto":
        precision = "bf16" if device.startswith("cuda") and torch.cuda.is_bf16_supported() else "fp32"
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
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


def prompt(processor: Any, question: str) -> str:
    """The text before the answer: one user turn, a picture and `question`, in the model's own chat template."""
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
    return str(processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False))


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
    stops when all its captions have ended.
    """
    import torch

    text = prompt(processor, question)
    captions: list[str] = []
    for start in range(0, len(pictures), batch_size):
        batch = list(pictures[start : start + batch_size])
        # The same question makes prompts of the same length: nothing is padded, neither left nor right.
        inputs = processor(images=batch, text=[text] * len(batch), return_tensors="pt")
        inputs = inputs.to(model.device, dtype=model.dtype)  # input_ids (B, T); their type stays
        with torch.inference_mode():
            output = model.generate(
                **inputs, do_sample=False, num_beams=1, use_cache=True, max_new_tokens=max_new_tokens
            )
        answers = output[:, inputs["input_ids"].shape[1] :]  # (B, new tokens)
        captions += processor.batch_decode(answers, skip_special_tokens=True)
    return [caption.strip() for caption in captions]
