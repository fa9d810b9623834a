"""docs/reliability.json: what was tried to break it, how often, and what was lost; one entry a kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minivlm import hardware
from minivlm.files import read_json, write_json

FILE = Path(__file__).resolve().parents[2] / "docs" / "reliability.json"


def record(kind: str, values: dict[str, Any], file: Path = FILE) -> None:
    """Replace the entry of `kind`; those of the other kinds stay."""
    found = read_json(file) if file.exists() else {}
    found[kind] = values | {"cpu": hardware.cpu_model(), "cores": hardware.cores()}
    write_json(file, dict(sorted(found.items())))
