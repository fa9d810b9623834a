"""Base models from nothing: tokenizer, vision tower and language model, trained on the accepted training rows.

Writes one directory, tokenizer/, vision_tower/, llm/, layout.json and fingerprint.json, whichever way the parts
came; what follows reads nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.config import Base
from minivlm.data.rows import Row
from minivlm.errors import UserError
from minivlm.files import write_json
from minivlm.training.result import FitResult

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from minivlm.data.encoding import ChatEncoder


def train_base(
    rows: Mapping[str, Sequence[Row]], directory: Path, section: Base, *, seed: int, shared: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """Train all three on the rows of `pretrain` and `sft`; metrics by part. UserError without a picture.

    `shared` goes to `fit` for both models: device, logging, prices. On a CPU with two threads or more the models
    are trained side by side, each with its part of the threads: small steps gain little from more than one.
    """
    import torch

    from minivlm.data.bpe import train_tokenizer
    from minivlm.model.checkpoint import load_strictly
    from minivlm.model.fingerprint import write_fingerprint
    from minivlm.parallel import beside

    everything = [row for split in rows.values() for row in split]
    texts = [turn.content for row in everything for turn in row.turns]
    values = section.tokenizer.model_dump(exclude={"pretrained"})
    tokens = train_tokenizer(texts, directory / "tokenizer", **values)
    threads = torch.get_num_threads()
    spare = threads // 2 if shared["device"] == "cpu" else 0
    llm_arguments = (_conversations(everything), directory, section, seed, _without_log(shared))
    log = _log_as("llm", shared["on_log"])
    if spare:
        with beside(_train_llm, *llm_arguments, spare) as llm_result:
            torch.set_num_threads(threads - spare)
            tower = _train_tower(rows["pretrain"], directory, section, seed, shared)
            torch.set_num_threads(threads)
            llm, history = llm_result()
    else:
        tower = _train_tower(rows["pretrain"], directory, section, seed, shared)
        llm, history = _train_llm(*llm_arguments, threads)
    for step, metrics in history:
        log(step, metrics)

    from transformers import LlamaForCausalLM

    write_json(directory / "layout.json", {"vision_feature_layer": section.vision_feature_layer})
    text_loss = write_fingerprint(load_strictly(LlamaForCausalLM, directory / "llm"), directory, seed)
    return {
        "tokenizer": {"tokens": tokens},
        "vision_tower": _figures(tower),
        "llm": llm | {"fingerprint_loss": text_loss},
    }


Log = Callable[[int, dict[str, float]], None]


def _log_as(part: str, log: Log) -> Log:
    return lambda step, metrics: log(step, {f"{part}.{name}": value for name, value in metrics.items()})


def _without_log(shared: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in shared.items() if key != "on_log"}


def _conversations(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """(picture key, row without its pictures): what another process is sent."""
    from minivlm.data.pairs import picture_key

    return [(picture_key(row), row._replace(pictures=())) for row in rows]


def _train_tower(
    rows: Sequence[Row], directory: Path, section: Base, seed: int, shared: Mapping[str, Any]
) -> FitResult:
    import numpy as np
    import torch

    from minivlm.data.encoding import ChatEncoder
    from minivlm.data.pairs import Pairs, is_validation, picture_key
    from minivlm.training.tower import train_tower

    kept = np.array([is_validation(picture_key(row), section.validation_fraction) for row in rows if row.pictures])
    pairs = Pairs.read(rows)
    if len(kept) != len(pairs.captions) or kept.all():
        raise UserError("base: no row of the training data has a picture and an answer to learn from")
    values = section.vision_tower.model_dump(exclude={"source", "pretrained"})
    names = ("image_size", "patch_size", "hidden_size", "layers", "text_layers", "heads", "intermediate_size")
    shape = {name: values.pop(name) for name in (*names, "projection_size")}
    encoder = ChatEncoder(directory / "tokenizer")
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
        on_log=_log_as("vision_tower", shared["on_log"]),
        **values,
        **_without_log(shared),
    )


def _train_llm(
    conversations: Sequence[tuple[str, Row]],
    directory: Path,
    section: Base,
    seed: int,
    shared: Mapping[str, Any],
    threads: int,
) -> tuple[dict[str, float], list[tuple[int, dict[str, float]]]]:
    """(figures, what was logged): all that it returns is small, because it may come from another process."""
    import numpy as np

    from minivlm.data.encoding import ChatEncoder
    from minivlm.data.pairs import is_validation
    from minivlm.data.text_tasks import telling
    from minivlm.training.base_llm import TaskRow, train_llm
    from minivlm.training.device import seed_everything

    seed_everything(seed, threads)
    values = section.llm.model_dump(exclude={"source", "pretrained", "text_tasks", "text_length"})
    keys, rows = [key for key, _ in conversations], [row for _, row in conversations]
    encoder = ChatEncoder(directory / "tokenizer")
    answers = _answers(rows, keys, encoder)
    ids = encoder.encode([[turn._asdict() for turn in row.turns] for row in rows], image_tokens=1)
    longest = values["max_position_embeddings"]
    # Half of the positions is for the conversation, a quarter for the sketch: of two texts, a slot for two tokens.
    cut = [row[: longest // 2] for row in ids]
    told = {key: telling([text[: longest // 4] for text in texts]) for key, texts in answers.items()}
    tasks = [TaskRow(row, encoder.mask(row), told[key]) for row, key in zip(cut, keys, strict=True)]
    headers = np.concatenate(encoder.encode_plain(["system", "user", "assistant"], framed=False))
    shape = {
        "vocab_size": encoder.vocabulary,
        "hidden_size": values.pop("hidden_size"),
        "num_hidden_layers": values.pop("layers"),
        "num_attention_heads": values.pop("heads"),
        "num_key_value_heads": values.pop("key_value_heads"),
        "intermediate_size": values.pop("intermediate_size"),
        "max_position_embeddings": values.pop("max_position_embeddings"),
        "rope_theta": values.pop("rope_theta"),
    }
    pad, bos, eos = encoder.special_ids[:3]
    history: list[tuple[int, dict[str, float]]] = []
    result = train_llm(
        tasks,
        np.array([is_validation(key, section.validation_fraction) for key in keys]),
        directory / "llm",
        shape=shape,
        special_ids={"pad_token_id": pad, "bos_token_id": bos, "eos_token_id": eos},
        image_token_id=encoder.image_token_id,
        header_ids=headers.tolist(),
        seed=seed,
        on_log=lambda step, metrics: history.append((step, metrics)),
        **values,
        **shared,
    )
    return _figures(result), history


def _answers(
    rows: Sequence[Row], keys: Sequence[str], encoder: ChatEncoder
) -> dict[str, list[npt.NDArray[np.int64]]]:
    """Picture → token ids of every first answer about it."""
    found: dict[str, list[str]] = defaultdict(list)
    for row, key in zip(rows, keys, strict=True):
        found[key] += [turn.content for turn in row.turns if turn.role == "assistant"][:1]
    texts = [text for of_picture in found.values() for text in of_picture]
    encoded = iter(encoder.encode_plain(texts, framed=False))
    return {key: [ids for _ in of_picture if len(ids := next(encoded))] for key, of_picture in found.items()}


def _figures(result: FitResult) -> dict[str, float]:
    figures: dict[str, float] = {"train_loss": round(result.train_loss, 6), "steps": result.steps}
    if result.val_loss is not None:
        figures |= {"val_loss": round(result.val_loss, 6), "best_step": result.best_step}
    return figures | {"samples": result.samples, "tokens": result.tokens}
