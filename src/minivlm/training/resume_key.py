"""Which saved state belongs to a training: a hash of its parameters, its inputs and its code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from minivlm.files import sha256_file

_CODE = ("data", "model", "training")  # packages that decide what a step does
_HASHED_ELSEWHERE = "pictures.bin"  # gigabytes, of which hashes.npy beside it holds every picture's sha256


def resume_key(parameters: Mapping[str, Any], inputs: Iterable[Path]) -> str:
    """16 hex digits; `parameters` have to be JSON values, `inputs` are directories.

    Reads all of the inputs but the pictures: about a second a gigabyte.
    """
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    package = Path(__file__).parents[1]
    code = [path for name in _CODE for path in (package / name).rglob("*.py")]
    for root, files in ((package, code), *((root, root.rglob("*")) for root in inputs)):
        for path in sorted(files):
            if path.is_file() and path.name != _HASHED_ELSEWHERE:
                digest.update(f"{path.relative_to(root).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()[:16]
