"""A saved LLaVA directory → model and processor, ready to answer; what does not belong together is refused."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from minivlm.device import resolve_device, resolve_precision
from minivlm.errors import UserError
from minivlm.generation.captions import caption_pictures
from minivlm.generation.speed import duration
from minivlm.token_ids import check_numbers

if TYPE_CHECKING:
    from minivlm.config.section import Precision

_MOST_RESIZED = 4  # a picture's shorter edge over what the tower takes: 256 of 224 pixels is common


class Loading(NamedTuple):
    """Seconds until a model could answer: to import torch and transformers, and to read the model's files."""

    imports: float
    files: float

    def shown(self) -> str:
        """For people."""
        return f"model loaded in {duration(self.files)}, after {duration(self.imports)} for torch and transformers"


def load_measured(directory: Path, device: str = "cpu") -> tuple[Any, Any, Loading]:
    """`load_model`, and what it took, for a command that has just begun and imported nothing heavy yet."""
    start = time.perf_counter()
    with _uncollected():
        import torch  # noqa: F401
        from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration  # noqa: F401

        imported = time.perf_counter()
        model, processor = load_model(directory, device)
    return model, processor, Loading(imported - start, time.perf_counter() - imported)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector: a fifth of the time for imports is its looking at what they make, and none of
    that is garbage. Nor is it looked at afterwards."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


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

    Where no fingerprint tells, blank pictures and a question do: they have to give the model what it takes.
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
        pictures(images=blank, return_tensors="pt")  # the same shape for both, or an error
        caption_pictures(model, processor, blank[:1], "?", batch_size=1, max_new_tokens=1)
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
