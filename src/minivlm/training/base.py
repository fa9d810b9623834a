"""The base that both stages start from: tokenizer, vision tower and language model, each made here or brought.

Made here means trained on the accepted training rows and on texts (`train`), or left as drawn from the seed
(`random`); brought means from a hub's repository or from a folder (`hub`, `local`). Writes one directory,
tokenizer/, vision_tower/, llm/, layout.json and fingerprint.json, whichever way the parts came; what follows reads
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from minivlm.config import Base
from minivlm.config.combinations import base_faults
from minivlm.data.rows import Row
from minivlm.data.texts import TextFile, survey
from minivlm.errors import UserError
from minivlm.files import read_json, write_json
from minivlm.training.base_data import Conversation, conversations, tokenizer_texts
from minivlm.training.base_language import (
    Figures,
    History,
    bring_language_model,
    draw_language_model,
    parameter_count,
    train_language_model,
    training_figures,
)
from minivlm.training.brought import BROUGHT, base_models, check_stated
from minivlm.training.cost_report import Spent
from minivlm.training.keeping import Keep
from minivlm.training.logbook import Logbook
from minivlm.training.result import FitResult
from minivlm.training.stopping import StopSignals, never

Rows = Mapping[str, Iterable[Row]]
Log = Callable[..., None]  # step, metrics and, where states are kept, the time


def train_base(
    rows: Rows,
    directory: Path,
    section: Base,
    *,
    seed: int,
    shared: Mapping[str, Any],
    texts: Sequence[TextFile] = (),
    brought: Mapping[str, Path] | None = None,
    on_spent: Callable[[str, Spent], None] = lambda part, spent: None,
    keep: Keep | None = None,
) -> dict[str, Figures]:
    """Make all three; metrics by part. UserError when a part has nothing to learn from.

    `rows`: those of `pretrain` and `sft`, gone through anew for each part that learns from them, and not at all
    when both models are brought; `texts`: the files of base.texts; `brought`: the folders that `find_parts` gives.
    `shared` goes to `fit` for both models: device, logging, prices; `on_spent(part, spent)` is told what each
    training took. On a CPU with two threads or more, two models that are both trained are trained side by side,
    each with its part of the threads: small steps gain little from more than one. `keep`: where both keep states
    that they go on from; steps are then logged as `on_log(step, metrics, time)`, milliseconds since 1970.
    """
    import torch

    brought = brought or {}
    _check(section, texts)
    figures, tasks = _language_to_start_with(rows, directory, section, texts, brought)
    threads = torch.get_num_threads()
    both = section.tower_source == section.llm_source == "train"
    spare = threads // 2 if both and shared["device"] == "cpu" else 0
    history: History = []
    # The texts' tokens lie outside of the output, in a folder of this process: the other may be ended at any time.
    with TemporaryDirectory(prefix=f".{directory.name}.texts.", dir=directory.parent) as folder:
        arguments = (
            tasks, texts, Path(folder), directory, section, seed, _without_log(shared), _of_part(keep, "llm")
        )  # fmt: skip
        if spare:
            from minivlm.parallel import beside

            with beside(train_language_model, *arguments, spare) as result:
                torch.set_num_threads(threads - spare)
                figures["vision_tower"] = _tower(rows, directory, section, seed, shared, brought, on_spent, keep)
                torch.set_num_threads(threads)
                with StopSignals() if keep else nullcontext(never) as stop:
                    figures["llm"], history, spent = result(stop)
                on_spent("llm", spent)
        else:
            figures["vision_tower"] = _tower(rows, directory, section, seed, shared, brought, on_spent, keep)
            if section.llm_source == "train":
                figures["llm"], history, spent = train_language_model(*arguments, threads)
                on_spent("llm", spent)
    log = _log_as("llm", shared["on_log"])
    for step, metrics, time in history:
        log(step, metrics, *(() if time is None else (time,)))
    if section.llm_source == "random":
        figures["llm"] = draw_language_model(directory, section, seed)

    layout: dict[str, Any] = {"vision_feature_layer": _existing_layer(section, directory)}
    # What the model card has to name; of parts that are made here from the rows there is nothing to say.
    others = {"base_models": base_models(section), "texts": ["texts of your own"] if texts else []}
    write_json(directory / "layout.json", layout | {key: names for key, names in others.items() if names})
    figures["llm"]["fingerprint_loss"] = _write_fingerprint(directory, seed)
    return {part: figures[part] for part in ("tokenizer", "vision_tower", "llm")}


def _check(section: Base, texts: Sequence[TextFile]) -> None:
    """UserError for values that exclude each other."""
    if fault := next(base_faults(section, bool(texts)), None):
        raise UserError(fault)


def _language_to_start_with(
    rows: Rows, directory: Path, section: Base, texts: Sequence[TextFile], brought: Mapping[str, Path]
) -> tuple[dict[str, Figures], list[Conversation]]:
    """The tokenizer, with the model when it is brought: (figures, conversations for it to learn from)."""
    from minivlm.data.bpe import train_tokenizer

    if section.llm_source in BROUGHT:
        return bring_language_model(section, directory, brought), []
    found = survey(texts)
    learns = section.llm_source == "train" and section.llm.text_tasks
    tasks = list(conversations(rows)) if learns else []
    said = [[each.row for each in tasks]] if learns else rows.values()
    values = section.tokenizer.model_dump(exclude={"pretrained"})
    tokens = train_tokenizer(tokenizer_texts(said, texts, found), directory / "tokenizer", **values)
    return {"tokenizer": {"tokens": tokens}}, tasks


def _tower(
    rows: Rows, directory: Path, section: Base, seed: int, shared: Mapping[str, Any], brought: Mapping[str, Path],
    on_spent: Callable[[str, Spent], None], keep: Keep | None,
) -> Figures:  # fmt: skip
    """vision_tower/, by its source."""
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
    keep = _of_part(keep, "vision_tower")
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
    log = _log_as("vision_tower", shared["on_log"])
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
        **_without_log(shared),
    )


def _existing_layer(section: Base, directory: Path) -> int:
    """The hidden state that is read of the tower; UserError when the one that was brought has no such layer."""
    layer = section.vision_feature_layer
    config = read_json(directory / "vision_tower" / "config.json")
    layers = int(config["num_hidden_layers"])
    if not -layers - 1 <= layer <= layers:
        raise UserError(f"base.vision_feature_layer {layer} is not in {-layers - 1} to {layers} of the tower")
    return layer


def _write_fingerprint(directory: Path, seed: int) -> float:
    from transformers import AutoModelForCausalLM

    from minivlm.model.checkpoint import load_strictly
    from minivlm.model.fingerprint import write_fingerprint

    return write_fingerprint(load_strictly(AutoModelForCausalLM, directory / "llm"), directory, seed)


def _log_as(part: str, log: Log) -> Log:
    return lambda step, metrics, *time: log(
        step, {f"{part}.{name}": value for name, value in metrics.items()}, *time
    )


def _of_part(keep: Keep | None, part: str) -> Keep | None:
    return keep and replace(keep, folder=keep.folder / part)


def _without_log(shared: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in shared.items() if key != "on_log"}
