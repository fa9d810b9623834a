"""The vision tower of the base, by source: trained, drawn at random, or brought.

Each way ends in `vision_tower/` of the base's directory and in figures for metrics.json.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from minivlm.config import Base
from minivlm.data.rows import Row
from minivlm.errors import UserError
from minivlm.files import read_json
from minivlm.training.base_language import Figures, parameter_count, training_figures
from minivlm.training.brought import BROUGHT, check_stated
from minivlm.training.cost_report import Spent
from minivlm.training.keeping import Keep
from minivlm.training.logbook import Logbook
from minivlm.training.result import FitResult

Rows = Mapping[str, Iterable[Row]]
Log = Callable[..., None]  # step, metrics and, where states are kept, the time


def make_vision_tower(
    rows: Rows, directory: Path, section: Base, seed: int, shared: Mapping[str, Any], brought: Mapping[str, Path],
    on_spent: Callable[[str, Spent], None], keep: Keep | None,
) -> Figures:  # fmt: skip
    """Write vision_tower/, by its source; figures for metrics.json. The tokenizer is there.

    Arguments as `train_base` takes them.
    """
    import torch

    from minivlm.training.tower import random_tower

    target, origin = directory / "vision_tower", section.tower_source
    values = section.vision_tower.model_dump(exclude={"source", "pretrained"})
    names = ("image_size", "patch_size", "hidden_size", "layers", "text_layers", "heads", "intermediate_size")
    shape = {name: values.pop(name) for name in (*names, "projection_size")}
    if origin in BROUGHT:
        from minivlm.training import pretrained

        pretrained.bring_vision_tower(brought["vision_tower"], target)
        check_stated(section.vision_tower.pretrained, read_json(target / "config.json"))
        return {"source": origin, "parameters": parameter_count(target)}
    if origin == "random":
        torch.manual_seed(seed)
        random_tower(target, shape=shape)
        return {"source": origin, "parameters": parameter_count(target), "steps": 0}
    keep = keep and keep.of_part("vision_tower")
    result = _train_tower(rows, directory, section.validation_fraction, seed, shared, shape, values, keep)
    on_spent("vision_tower", Spent.of(result))
    return training_figures(result)


def _train_tower(
    rows: Rows,
    directory: Path,
    validation_fraction: float,
    seed: int,
    shared: Mapping[str, Any],
    shape: Mapping[str, int],
    values: Mapping[str, Any],
    keep: Keep | None,
) -> FitResult:
    import torch

    from minivlm.data.encoding import ChatEncoder
    from minivlm.data.pairs import Pairs, linked_pictures
    from minivlm.training.tower import train_tower

    pairs = Pairs.read(rows["pretrain"], linked_pictures(rows.values()))
    kept = pairs.held_back(validation_fraction)
    if not len(kept):
        raise UserError("base: no row of the training data has a picture and an answer to learn from")
    if kept.all():
        raise UserError("base: all pictures would be kept for validation; lower base.validation_fraction")
    encoder = ChatEncoder(directory / "tokenizer")
    log = log_as("vision_tower", shared["on_log"])
    on_log = Logbook(keep.folder, lambda metrics, step, time: log(step, metrics, time)) if keep else log
    torch.manual_seed(seed)
    return train_tower(
        pairs,
        encoder.encode_plain(pairs.captions),
        kept,
        directory / "vision_tower",
        shape=shape,
        vocabulary=encoder.vocabulary,
        pad_token_id=encoder.pad_token_id,
        seed=seed,
        keep=keep,
        on_log=on_log,
        **values,
        **{key: value for key, value in shared.items() if key != "on_log"},
    )


def log_as(part: str, log: Log) -> Log:
    """`log` with the names of the metrics under that of a part of the base."""
    return lambda step, metrics, *time: log(
        step, {f"{part}.{name}": value for name, value in metrics.items()}, *time
    )
