"""Plans of the stages that make rows and tokens: download, validate, tokenize."""

from __future__ import annotations

from typing import Any

from minivlm import hardware
from minivlm.config import Params
from minivlm.paths import SPLITS
from minivlm.planning.figures import Figure, disk, memory, size, total, unknown
from minivlm.planning.models import image_tokens, tower_config, vocabulary
from minivlm.planning.present import Present
from minivlm.planning.rows import (
    accepted_rows,
    downloaded_rows,
    missing_bytes,
    source_bytes,
    source_rows,
    splits,
)

PROCESS = 400 << 20
"""A process with pyarrow, Pillow, NumPy and some batches of rows: 150 to 310 MiB were measured."""
VALIDATION = 700 << 20
"""The same with pandas and Great Expectations, which the first process of validate, and tokenize, load."""
TOKEN_ROW = 41  # bytes that a token store and its writer hold of a row beside its tokens: offsets, numbers, counts


def download(params: Params, present: Present) -> dict[str, Any]:
    """Rows and pictures by split, bytes to fetch, memory and disk."""
    section = params.download
    rows, amounts = source_rows(params, present), source_bytes(params, present)
    entry: dict[str, Any] = {
        "source": section.source,
        "splits": {split: figure.fields("rows") for split, figure in rows.items()},
        **total(rows).fields("rows"),
    }
    needed = total(amounts)
    if section.source == "scenes":
        scenes = section.scenes
        pictures = scenes.train_pictures + scenes.heldout_pictures + scenes.compositional_pictures
        entry |= Figure(pictures, "params: download.scenes").fields("pictures")
        entry["fetch"] = size(0)
    else:
        entry |= unknown("a row may have several pictures, or share one; validate counts them").fields("pictures")
        if section.source == "local":
            entry["fetch"] = size(0)
        else:
            pinned = {f"download.hub.{split}": getattr(section.hub, split) for split in amounts}
            figure = missing_bytes(pinned, "dataset")
            entry["fetch"] = None if figure.value is None else size(figure.value)
            entry["fetch_why" if figure.value is None else "fetch_from"] = figure.source
            # What is fetched stays in the hub's cache, and its rows are written again as Parquet.
            needed = total({"tables": needed, "fetched": figure})
    if present.has("download"):
        entry["already_there"] = "artifacts/download is of these parameters; dvc repro will not run this stage"
    entry["memory"] = _memory(params, PROCESS)
    entry["disk"] = disk(needed, present.paths.artifacts("download"), at_least=_repeats(params))
    return entry


def validate(params: Params, present: Present) -> dict[str, Any]:
    """Rows of each file that will be checked."""
    rows = {split: downloaded_rows(split, params, present) for split in splits(params, present)}
    checked = total(rows)
    # Row numbers of 8 bytes, and reports whose length depends on what is wrong.
    needed = checked.map(lambda count: 8 * count + (4 << 20), exact=False)
    return {
        "splits": {split: figure.fields("rows") for split, figure in rows.items()},
        **checked.fields("rows"),
        "memory": _memory(params, VALIDATION),
        "disk": disk(needed, present.paths.reports("validate")),
    }


def tokenize(params: Params, present: Present) -> dict[str, Any]:
    """Rows, tokens at most, and the disk that the stores take."""
    limit = params.tokenize.max_length
    rows = {split: accepted_rows(split, params, present) for split in splits(params, present)}
    counted = total(rows)
    source = f"rows x tokenize.max_length {limit:,}"
    tokens = counted.map(lambda count: count * limit, source, exact=False)
    words = vocabulary(params, present)
    width = 2 if words.value is not None and words.value <= 1 << 16 else 4
    pictures = _picture_bytes(params, present)
    stores = total({"tokens": tokens.map(lambda count: count * (width + 1)), "pictures": pictures})
    needed = stores.map(lambda count: count + TOKEN_ROW * (counted.value or 0), exact=False)
    found = tower_config(params, present)
    return {
        "splits": {split: figure.fields("rows") for split, figure in rows.items()},
        **counted.fields("rows"),
        **tokens.fields("tokens"),
        **image_tokens(found).fields("image_tokens"),
        **_memory_of_rows(counted),
        "disk": disk(needed, present.paths.artifacts("tokenize")),
    }


def _picture_bytes(params: Params, present: Present) -> Figure:
    """Bytes of all pictures at most; the store keeps each once, the tables each time it is named."""
    if present.has("download"):
        there = [present.paths.table(split) for split in splits(params, present)]
        return Figure(sum(path.stat().st_size for path in there), "size of artifacts/download", exact=False)
    return total(source_bytes(params, present))


def _repeats(params: Params) -> str:
    """Why download's tables may be larger than their source; "" when they are not."""
    section = params.download
    sources = {"local": section.local, "hub": section.hub}.get(section.source)
    if any(file is not None and file.images for file in (getattr(sources, split, None) for split in SPLITS)):
        return "a picture that several rows name is written with each of them"
    return ""


def _memory_of_rows(rows: Figure) -> dict[str, Any]:
    if rows.value is None:
        return {"memory": None, "memory_why": rows.source}
    return {"memory": memory({"process": VALIDATION, "rows": TOKEN_ROW * rows.value}, hardware.memory_bytes())}


def _memory(params: Params, process: int) -> dict[str, Any]:
    workers = params.runtime.workers or hardware.cores()
    return memory({"process": process, f"{workers} workers": workers * PROCESS}, hardware.memory_bytes())
