"""How many rows and bytes each split has: by artifacts, your files, the hub's cache, or the parameters."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minivlm.config import Params
from minivlm.errors import UserError
from minivlm.files import read_json
from minivlm.paths import SPLITS
from minivlm.planning.figures import Figure, unknown
from minivlm.planning.present import Present

ROWS_PER_SCENE = 3  # of a held-out picture of the drawn world (minivlm.data.scenes.build)
NO_PIN = "not pinned; run minivlm pin where there is a network"
_CHUNK = 1 << 22


def accepted_rows(split: str, params: Params, present: Present) -> Figure:
    """Rows of a split that later stages read: as validated, else as many as download has or will make, at most."""
    if present.has("validate"):
        return _parquet(present.paths.accepted(split), present)
    figure = downloaded_rows(split, params, present)
    return figure.map(int, f"{figure.source}, before validation", exact=False)


def downloaded_rows(split: str, params: Params, present: Present) -> Figure:
    """Rows of a split's table, once download has run."""
    if present.has("download"):
        return _parquet(present.paths.table(split), present)
    return source_rows(params, present).get(split, unknown("no such split in download's source"))


def splits(params: Params, present: Present) -> list[str]:
    """The splits that there are or will be."""
    if present.has("download"):
        return [split for split in SPLITS if present.paths.table(split).exists()]
    return list(source_rows(params, present))


def source_rows(params: Params, present: Present) -> dict[str, Figure]:
    """Split → rows that download will write, from its source."""
    section = params.download
    if section.source == "scenes":
        scenes, source = section.scenes, "params: download.scenes"
        counts = {
            "pretrain": scenes.train_pictures,
            "sft": scenes.sft_rows,
            "heldout": ROWS_PER_SCENE * scenes.heldout_pictures,
            "compositional": ROWS_PER_SCENE * scenes.compositional_pictures,
        }
        return {split: Figure(count, source) for split, count in counts.items()}
    if section.source == "local":
        files: dict[str, Path | None] = {
            split: present.paths.root / file.path
            for split in SPLITS
            if (file := getattr(section.local, split)) is not None
        }
        limit, why = section.local.limit, ""
    else:
        files = {
            split: cached(source.repo, source.revision, source.rows, "dataset")
            for split in SPLITS
            if (source := getattr(section.hub, split)) is not None
        }
        limit, why = section.hub.limit, "the rows are not in the hub cache yet"
    found = {
        split: unknown(why) if path is None else count_lines(path, limit, present) for split, path in files.items()
    }
    if "heldout" not in found and section.heldout_fraction:
        # A picture's hash decides whether its rows are held out, so that the share of the rows is not exact.
        found = {split: figure.map(int, exact=False) for split, figure in found.items()}
        found["heldout"] = unknown("download.heldout_fraction picks pictures by their hashes")
    return found


def source_bytes(params: Params, present: Present) -> dict[str, Figure]:
    """Split → bytes that its rows and pictures take in download's source; an upper bound for drawn pictures."""
    section = params.download
    if section.source == "scenes":
        # A JPEG of these sides is smaller than its pixels; a row's words take far less than a KiB.
        row = 3 * section.scenes.size**2 + 1024
        source = "params: 3 bytes a pixel and 1 KiB of text a row"
        return {
            split: figure.map(lambda rows: rows * row, source, exact=False)
            for split, figure in source_rows(params, present).items()
        }
    if section.source == "local":
        return {
            split: _local_bytes(present.paths.root, file.path, file.images)
            for split in SPLITS
            if (file := getattr(section.local, split)) is not None
        }
    return {
        split: hub_bytes(source.files) for split in SPLITS if (source := getattr(section.hub, split)) is not None
    }


def hub_bytes(files: Mapping[str, Any]) -> Figure:
    """The bytes of pinned files."""
    if not files:
        return unknown(NO_PIN)
    return Figure(sum(file.size for file in files.values()), "params: pinned sizes")


def missing_bytes(pinned: Mapping[str, Any], kind: str) -> Figure:
    """The bytes of pinned files that are not in the hub cache; `pinned`: parameter → its repo, revision and files.

    A file that two parameters name is fetched once.
    """
    wanted: dict[tuple[str, str, str], int] = {}
    for name, source in pinned.items():
        if not source.files or source.revision is None:
            return unknown(f"{name}: {NO_PIN}")
        wanted |= {(source.repo, source.revision, file): pin.size for file, pin in source.files.items()}
    absent = [count for (repo, commit, file), count in wanted.items() if cached(repo, commit, file, kind) is None]
    there = len(wanted) - len(absent)
    return Figure(sum(absent), f"pinned sizes of {len(absent)} files; {there} are in the hub cache")


def cached(repo: str | None, revision: str | None, file: str, kind: str) -> Path | None:
    """Where the hub's client keeps a file of a repository at a commit; None when it has it not. No network."""
    from huggingface_hub import try_to_load_from_cache

    if repo is None or revision is None:
        return None
    found = try_to_load_from_cache(repo, file, revision=revision, repo_type=kind)
    return Path(found) if isinstance(found, str) else None


def store_meta(split: str, present: Present) -> dict[str, Any] | None:
    """meta.json of a split's token store, where that is of the present parameters."""
    path = present.paths.tokens(split) / "meta.json"
    if not present.has("tokenize") or not path.is_file():
        return None
    try:
        meta: dict[str, Any] = read_json(path)
    except ValueError:
        raise UserError(f"{path}: not JSON; make it again: dvc repro -f tokenize") from None
    return meta


def tree_bytes(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _parquet(path: Path, present: Present) -> Figure:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return Figure(int(pq.read_metadata(path).num_rows), present.name(path))
    except FileNotFoundError:
        return unknown(f"no {present.name(path)}")
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None


def count_lines(path: Path, limit: int, present: Present) -> Figure:
    """Rows of a Parquet file or lines of a JSON lines file, gzipped or not; `limit` of them at most, 0 = all."""
    if not path.is_file():
        return unknown(f"{path}: not found")
    figure = _parquet(path, present) if path.suffix == ".parquet" else Figure(_lines(path), present.name(path))
    return figure.map(lambda rows: min(rows, limit) if limit else rows)


def _lines(path: Path) -> int:
    """Lines, the last with or without its end; a gigabyte takes about half a second."""
    count, last = 0, b"\n"
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            count += chunk.count(b"\n")
            last = chunk[-1:]
    return count + (last != b"\n")


def _local_bytes(root: Path, rows: str, images: str | None) -> Figure:
    paths = [root / name for name in (rows, images) if name]
    absent = [path for path in paths if not path.exists()]
    if absent:
        return unknown(f"{absent[0]}: not found")
    return Figure(sum(map(tree_bytes, paths)), "size of your files")
