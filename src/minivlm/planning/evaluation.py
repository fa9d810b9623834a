"""The plan of the evaluate stage: pictures, captions and tokens at most."""

from __future__ import annotations

import math
from typing import Any

from minivlm import hardware
from minivlm.config import Params
from minivlm.device import resolve_device, resolve_precision
from minivlm.errors import UserError
from minivlm.files import read_json
from minivlm.planning.figures import Figure, disk, memory, total
from minivlm.planning.memory import beside_device, generation_memory, gpu_bytes, on_device
from minivlm.planning.models import image_tokens, llm_config, tower_config, weights
from minivlm.planning.present import Present
from minivlm.planning.rows import accepted_rows, splits

MODELS = ("pretrain", "sft")
_QUESTION = 64  # tokens of a question and the template around it
_PAGE = 32 << 20  # the page, with its figures and pictures, and the reports
_CAPTION = 64  # bytes of a token, as text, in all the files that name a caption


def evaluate(params: Params, present: Present) -> dict[str, Any]:
    """Captions of both models over the held-out splits and the pictures of data/questions.json."""
    section = params.evaluate
    most, each = section.max_pictures, section.max_new_tokens
    source = f"evaluate.max_pictures {most:,}, or as many rows as there are"
    pictures = {
        split: accepted_rows(split, params, present).map(lambda rows: min(rows, most), source, exact=False)
        for split in splits(params, present)
        if split not in MODELS
    }
    shown = _shown(present)
    captions = total({**pictures, "shown": shown}).map(lambda count: len(MODELS) * count, exact=False)
    tokens = captions.map(lambda count: count * each, f"captions x evaluate.max_new_tokens {each:,}")
    batches = total({name: f.map(lambda n: math.ceil(n / section.batch_size)) for name, f in pictures.items()})
    device = resolve_device(params.runtime.device)
    precision = resolve_precision(section.precision, device)
    entry: dict[str, Any] = {
        "models": len(MODELS),
        "splits": {split: figure.fields("pictures") for split, figure in pictures.items()},
        **shown.fields("shown"),
        **captions.fields("captions"),
        **tokens.fields("tokens"),
        **batches.map(lambda count: len(MODELS) * count, exact=False).fields("steps"),
        "device": hardware.device_name(device),
        "precision": precision,
        **_memory(params, present, device, precision),
    }
    allowance = tokens.map(lambda count: _CAPTION * count + _PAGE, "captions, reports and the page, about")
    return entry | {"disk": disk(allowance, present.paths.reports("evaluate"))}


def _shown(present: Present) -> Figure:
    path = present.paths.questions
    try:
        return Figure(len(read_json(path)), present.name(path))
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except (ValueError, TypeError):
        raise UserError(f"{path}: not a list of pictures") from None


def _memory(params: Params, present: Present, device: str, precision: str) -> dict[str, Any]:
    """Of one model: the second is loaded when the first is done."""
    tower, llm = tower_config(params, present), llm_config(params, present)
    if tower.config is None or llm.config is None:
        return {"memory": None, "memory_why": tower.source if tower.config is None else llm.source}
    saved = weights(tower.config, llm.config, params.base.vision_feature_layer, "projector").saved
    patches, section = image_tokens(tower).value or 0, params.evaluate
    length = max(params.tokenize.max_length, patches + section.max_new_tokens + _QUESTION)
    try:
        amounts = generation_memory(
            tower.config, llm.config,
            saved=saved, rows=section.batch_size, length=length, c=2 if precision == "bf16" else 4,
        )  # fmt: skip
    except ValueError as error:
        return {"memory": None, "memory_why": str(error)}
    source = {"memory_from": f"rows of {length:,} tokens; a longer held-out row is not cut here and takes more"}
    if device == "cpu":
        return source | {"memory": memory(amounts, hardware.memory_bytes())}
    return source | {
        "memory": memory(beside_device(amounts), hardware.memory_bytes()),
        "gpu_memory": memory(on_device(amounts), gpu_bytes(device)),
    }
