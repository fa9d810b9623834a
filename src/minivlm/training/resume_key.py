"""Which saved state belongs to a training: a hash of its parameters, its inputs, its code and its libraries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from minivlm.files import sha256_file

PACKAGE = Path(__file__).parents[1]
COMMANDS = PACKAGE.parents[1] / "pipelines"
DECIDES_NOTHING = ("cli", "evaluation", "planning", "tracking")
"""Packages that no byte of a training follows from: with another version of these it goes on."""
LIBRARIES = ("torch", "transformers", "pillow", "numpy")
"""What computes pictures and features, and most of a step."""

_HASHED_ELSEWHERE = "pictures.bin"  # gigabytes, of which hashes.npy beside it holds every picture's sha256


def resume_key(parameters: Mapping[str, Any], inputs: Iterable[Path]) -> str:
    """16 hex digits; `parameters` have to be JSON values, `inputs` are directories.

    Reads all of the inputs but the pictures: about a second a gigabyte.
    """
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    digest.update("\0".join(versions(*LIBRARIES, "accelerate", "tokenizers")).encode())
    code = (path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in DECIDES_NOTHING)
    digest.update(digest_files(PACKAGE, code))
    digest.update(digest_files(COMMANDS, COMMANDS.glob("*.py")))
    for root in inputs:
        digest.update(digest_files(root, (path for path in root.rglob("*") if path.name != _HASHED_ELSEWHERE)))
    return digest.hexdigest()[:16]


def versions(*libraries: str) -> list[str]:
    """Name and version of each library as it is installed: another one may compute other bits."""
    from importlib.metadata import version

    return [f"{name} {version(name)}" for name in libraries]


def digest_files(root: Path, paths: Iterable[Path]) -> bytes:
    """One hash of the files' names below `root` and their contents; directories among them are left out."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        if path.is_file():
            digest.update(f"{path.relative_to(root).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.digest()
