"""The base that both stages start from: tokenizer, vision tower and language model, each made here or brought.

Made here means trained on the accepted training rows and on texts (`train`), or left as drawn from the seed
(`random`); brought means from a hub's repository or from a folder (`hub`, `local`). Writes one directory,
tokenizer/, vision_tower/, llm/, layout.json and fingerprint.json, whichever way the parts came; what follows reads
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from minivlm.config import Base
from minivlm.config.combinations import base_faults
from minivlm.data.texts import TextFile, survey
from minivlm.errors import UserError
from minivlm.files import read_json, write_json
from minivlm.training.base_data import Conversation, conversations, tokenizer_texts
from minivlm.training.base_language import (
    Figures,
    History,
    bring_language_model,
    draw_language_model,
    train_language_model,
)
from minivlm.training.base_tower import Rows, log_as, make_vision_tower
from minivlm.training.brought import BROUGHT, base_models
from minivlm.training.cost_report import Spent
from minivlm.training.keeping import Keep
from minivlm.training.stopping import never


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
        train_llm = partial(
            train_language_model, tasks, texts, Path(folder), directory, section, seed, _without_log(shared),
            keep and keep.of_part("llm"),
        )  # fmt: skip
        tower = partial(make_vision_tower, rows, directory, section, seed, shared, brought, on_spent, keep)
        if spare:
            from minivlm.parallel import beside
            from minivlm.training.progress import bars

            with bars() as show, beside(train_llm, spare, told=show) as result:
                torch.set_num_threads(threads - spare)
                figures["vision_tower"] = tower()
                torch.set_num_threads(threads)
                with keep.signals() if keep else nullcontext(never) as stop:
                    figures["llm"], history, spent = result(stop)
                if stop():
                    raise KeyboardInterrupt
                on_spent("llm", spent)
        else:
            figures["vision_tower"] = tower()
            if section.llm_source == "train":
                figures["llm"], history, spent = train_llm(threads)
                on_spent("llm", spent)
    log = log_as("llm", shared["on_log"])
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


def _without_log(shared: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in shared.items() if key != "on_log"}
