"""Your own files of rows, each pinned by its sha256: a file that changed is noticed before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from minivlm.data.sources import RowSource
from minivlm.errors import UserError
from minivlm.files import sha256_tree


class PinnedRows(NamedTuple):
    """A file of rows with its sha256, 64 hex digits; for JSON lines also the folder or zip of their pictures.

    `images_sha256` is the zip's, or that of the folder's names and contents (`minivlm.files.sha256_tree`).
    """

    path: str
    sha256: str
    images: str | None = None
    images_sha256: str | None = None


def local_sources(files: Mapping[str, PinnedRows], root: Path) -> dict[str, RowSource]:
    """The files by split, found and compared with their hashes; paths are absolute or from `root`.

    A file that two splits name is read once. UserError, in one line, for a file that is missing, has another
    hash, or has none.
    """
    known: dict[Path, str] = {}
    sources = {}
    for split, file in files.items():
        name = f"download.local.{split}"
        path = _checked(root / file.path, file.sha256, f"{name}.path", f"{name}.sha256", known)
        images = None
        if file.images is not None:
            place = root / file.images
            images = _checked(place, file.images_sha256, f"{name}.images", f"{name}.images_sha256", known)
        sources[split] = RowSource(path, images)
    return sources


def _checked(path: Path, expected: str | None, name: str, hash_name: str, known: dict[Path, str]) -> Path:
    """`path`, when its hash is the expected one; `known` are the hashes of files that were read already."""
    if not (path.is_file() or (path.is_dir() and name.endswith(".images"))):
        raise UserError(f"{path}: not found; set {name} in params.yaml")
    if path not in known:
        try:
            known[path] = sha256_tree(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if expected is None:
        raise UserError(f"{path}: {hash_name} is missing in params.yaml; for what lies there it is {known[path]}")
    if known[path] != expected:
        raise UserError(
            f"{path}: its sha256 is {known[path]}, {hash_name} expects {expected}; "
            "restore it, or put its hash into params.yaml if the change is meant"
        )
    return path
