"""Plans of the two training stages: the very steps that the stage will take where the token store is there."""

from __future__ import annotations

import math
from typing import Any

from minivlm import hardware
from minivlm.config import Params
from minivlm.config.training import Training
from minivlm.device import resolve_device, resolve_precision
from minivlm.paths import TRAIN_SPLITS
from minivlm.planning.bounds import check_budget, most_batches, row_over_budget
from minivlm.planning.feature_cache import features_disk, kept_bytes, pictures_of_rows, pictures_present
from minivlm.planning.figures import Figure, disk, memory, unknown
from minivlm.planning.memory import Batch, beside_device, gpu_bytes, on_device, training_memory
from minivlm.planning.models import (
    FoundConfig,
    Weights,
    image_tokens,
    llm_config,
    tower_config,
    vocabulary,
    weights,
)
from minivlm.planning.present import Present
from minivlm.planning.rows import accepted_rows, store_meta

_FILES = 8 << 20  # tokenizer, processor, configurations, reports and curves of a stage


def pretrain(params: Params, present: Present) -> dict[str, Any]:
    """The plan of the first stage."""
    return _plan("pretrain", params, params.pretrain, present)


def sft(params: Params, present: Present) -> dict[str, Any]:
    """The plan of the second stage."""
    return _plan("sft", params, params.sft, present)


def memory_on(stage: str, params: Params, present: Present, board: int | None) -> dict[str, Any]:
    """`memory` and `gpu_memory` of a training stage on a GPU of `board` bytes that need not be here, in bf16.

    `board` None: a GPU that is sold with several sizes of memory; whether it is enough is then left open.
    """
    section: Training = getattr(params, stage)
    tower, llm = tower_config(params, present), llm_config(params, present)
    if tower.config is None or llm.config is None:
        why = tower.source if tower.config is None else llm.source
        return {"memory": None, "memory_why": why, "gpu_memory": None, "gpu_memory_why": why}
    _, batch = _steps(stage, params, section, present, image_tokens(tower))
    found = weights(tower.config, llm.config, params.base.vision_feature_layer, section.freeze)
    return _memory(tower, llm, found, batch, "bf16", "cuda", board)


def _plan(stage: str, params: Params, section: Training, present: Present) -> dict[str, Any]:
    tower, llm = tower_config(params, present), llm_config(params, present)
    counted, batch = _steps(stage, params, section, present, image_tokens(tower))
    device = resolve_device(params.runtime.device)
    precision = resolve_precision(section.precision, device)
    entry = {
        **counted,
        "epochs": section.epochs,
        "batch_tokens": section.batch_tokens,
        "accumulation": section.accumulation,
        "freeze": section.freeze,
        "device": hardware.device_name(device),
        "precision": precision,
    }
    needed = unknown(tower.source if tower.config is None else llm.source)
    if tower.config is None or llm.config is None:
        return entry | {
            "parameters": None,
            "parameters_why": needed.source,
            "memory": None,
            "memory_why": needed.source,
            "disk": disk(needed, present.paths.artifacts(stage)),
        }
    found = weights(tower.config, llm.config, params.base.vision_feature_layer, section.freeze)
    if params.runtime.feature_cache:
        entry |= _features(stage, params, present, tower, precision)
    # The model, and beside it the trained weights after the last step.
    needed = Figure(4 * (found.saved + sum(found.trained.values())) + _FILES, "4 bytes a weight, and reports")
    return entry | {
        **_parameters(found, exact=vocabulary(params, present).exact),
        "parameters_from": ", ".join(dict.fromkeys((tower.source, llm.source))),
        **_memory(tower, llm, found, batch, precision, device, None if device == "cpu" else gpu_bytes(device)),
        "disk": disk(needed, present.paths.artifacts(stage)),
    }


def _features(stage: str, params: Params, present: Present, tower: FoundConfig, precision: str) -> dict[str, Any]:
    """Disk of the feature cache, or why it is not known."""
    exact, kept = store_meta(stage, present) is not None, 0
    rows = {name: accepted_rows(name, params, present) for name in TRAIN_SPLITS}
    pictures = pictures_present(present) if exact else pictures_of_rows({s: r.value for s, r in rows.items()})
    if pictures is None:
        return {"features": None, "features_why": rows[stage].source}
    if exact:
        kept = kept_bytes(params, precision, present)
    patches, width = image_tokens(tower).value or 0, tower.config.hidden_size
    return {"features": features_disk(pictures, patches, width, precision, present, kept)}


def _steps(
    stage: str, params: Params, section: Training, present: Present, picture: Figure
) -> tuple[dict[str, Any], Batch]:
    """Rows, steps and tokens, and the largest micro-batch. UserError when no batch can hold a picture."""
    meta = store_meta(stage, present)
    # Every row could be a picture and a word.
    per_picture = max(1, picture.value or 1) if meta is None else max(1, int(meta["image_tokens"]))
    if meta is not None:
        return _exact(stage, params, section, present, per_picture)
    longest = params.tokenize.max_length
    check_budget(stage, section.batch_tokens, picture.value or 0)
    # tokenize may leave some of them out, and keeps others for validation
    rows = accepted_rows(stage, params, present).map(int, exact=False)
    epochs, budget = math.ceil(section.epochs), section.batch_tokens
    source = f"rows x epochs, rows of tokenize.max_length {longest:,}: {present.why_not('tokenize')}"
    steps = rows.map(lambda count: _most_steps(count, longest, section), source, exact=False)
    seen = rows.map(lambda count: epochs * count * min(longest, budget), source, exact=False)
    samples = rows.map(lambda count: epochs * count, source, exact=False)
    counted = {
        **rows.fields("rows"),
        **steps.fields("steps"),
        **samples.fields("samples"),
        **seen.fields("tokens"),
    }
    if note := row_over_budget(stage, longest, budget):
        counted["note"] = note
    return counted, Batch(budget, budget, min(longest, budget), max(1, budget // per_picture))


def _most_steps(rows: int, longest: int, section: Training) -> int:
    steps = math.ceil(most_batches(rows, longest, section.batch_tokens) / section.accumulation)
    return max(1, math.ceil(section.epochs * steps))


def _exact(
    stage: str, params: Params, section: Training, present: Present, per_picture: int
) -> tuple[dict[str, Any], Batch]:
    from minivlm.data.batch_plan import plan_batches
    from minivlm.data.store import TokenStore
    from minivlm.planning.work import planned_steps, shape_of

    store = TokenStore(present.paths.tokens(stage))
    source, steps = present.name(store.directory), planned_steps(store, section, params.seed)
    plan_batches(store.lengths[store.validation_rows()], section.batch_tokens, params.seed, 0)  # all of them fit
    batches = [shape_of(store, batch, section.batch_tokens) for batch in steps.batches]
    counted = {
        **Figure(len(store.training_rows()), source).fields("rows"),
        **Figure(len(store.validation_rows()), source).fields("validation_rows"),
        **Figure(len(steps), source).fields("steps"),
        **Figure(sum(batch.rows for batch in batches), source).fields("samples"),
        **Figure(sum(batch.tokens for batch in batches), source).fields("tokens"),
        **Figure(sum(batch.padded for batch in batches), source).fields("padded_tokens"),
    }
    largest, longest = max(batch.padded for batch in batches), max(batch.length for batch in batches)
    positions = max(batch.positions for batch in batches)
    return counted, Batch(largest, positions, longest, max(1, largest // per_picture))


def _parameters(found: Weights, exact: bool) -> dict[str, Any]:
    """Numbers of weights; at most, where the tokenizer may yet get fewer tokens."""
    return {"parameters": found.fields()} if exact else {"parameters": None, "parameters_at_most": found.fields()}


def _memory(
    tower: FoundConfig,
    llm: FoundConfig,
    found: Weights,
    batch: Batch,
    precision: str,
    device: str,
    board: int | None,
) -> dict[str, Any]:
    try:
        amounts = training_memory(
            tower.config,
            llm.config,
            saved=found.saved,
            trained=sum(found.trained.values()),
            batch=batch,
            precision=precision,
            device=device,
        )
    except ValueError as error:
        return {"memory": None, "memory_why": str(error)}
    if device == "cpu":
        return {"memory": memory(amounts, hardware.memory_bytes())}
    return {
        "memory": memory(beside_device(amounts), hardware.memory_bytes()),
        "gpu_memory": memory(on_device(amounts), board),
    }
