"""What a reproduction changes against the last complete one, in words: "sft.learning_rate: 0.001 → 0.002".

When its last stage has finished, a reproduction leaves in mlruns/reproductions/names/last.json what it was made
from: its parameters, and digests of code and data. It is a file of this machine, so it is there whatever a server
does, and the same for `dvc repro`, `dvc exp run --temp` and a stage that was started by hand. What failed or was
stopped is not compared with: its figures are not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from minivlm.files import read_json, write_json

_FILE = "names/last.json"
FIRST, NOTHING = "first here", "nothing"
_MOST = 6  # changes that are named; a profile changes dozens
_LONGEST = 60  # characters of a value
_WHOLE = ("code", "data")  # of these there are digests alone


def since_last(folder: Path, made_from: Mapping[str, str]) -> tuple[str, str]:
    """What `made_from` changes against the reproduction noted in `folder`, and the name of that one.

    FIRST and "" where there is none, or its note is damaged.
    """
    before = _read(folder)
    return (FIRST, "") if before is None else (told(before[1], made_from), before[0])


def note(folder: Path, name: str, made_from: Mapping[str, str]) -> None:
    """Note a reproduction that is complete; the next ones say what they change against it."""
    write_json(folder / _FILE, {"name": name, "made_from": dict(made_from)})


def told(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The differences in one line, the code and the data last; NOTHING where there are none."""
    keys = sorted(before.keys() | now.keys(), key=lambda key: (key in _WHOLE, key))
    changes = [
        key if key in _WHOLE else f"{key}: {_short(before.get(key))} → {_short(now.get(key))}"
        for key in keys
        if before.get(key) != now.get(key)
    ]
    if len(changes) > _MOST:
        changes[_MOST - 1 :] = [f"and {len(changes) - _MOST + 1} more"]
    return "; ".join(changes) or NOTHING


def _short(value: str | None) -> str:
    if value is None:
        return "none"
    return value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"


def _read(folder: Path) -> tuple[str, dict[str, str]] | None:
    try:
        record = read_json(folder / _FILE)
        name, made_from = record["name"], dict(record["made_from"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    is_whole = isinstance(name, str) and all(isinstance(value, str) for value in made_from.values())
    return (name, made_from) if is_whole else None
