"""params.yaml and profiles, as text and as values: what every command reads first, and what plans make of it."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from tests.contract.imports import ROOT
from tests.reliability.fuzz_kind import Kind
from tests.reliability.fuzz_mutation import mutate_text
from tests.reliability.fuzz_values import Times, changes, examples


def _texts(folder: Path, count: int, seed: int) -> list[bytes]:
    return [
        (ROOT / "params.yaml").read_bytes(),
        *(p.read_bytes() for p in sorted((ROOT / "profiles").glob("*.yaml"))),
    ]


def _make_text(texts: list[bytes], random: Random, number: int, folder: Path) -> None:
    (folder / "params.yaml").write_bytes(mutate_text(texts[0], random))


def _use_text(folder: Path) -> None:
    from minivlm.config import load_params

    load_params(folder / "params.yaml")


def _make_profile(texts: list[bytes], random: Random, number: int, folder: Path) -> None:
    (folder / "params.yaml").write_bytes(texts[0])
    (folder / "own.yaml").write_bytes(mutate_text(random.choice(texts[1:]), random))


def _use_profile(folder: Path) -> None:
    from minivlm.cli.profile import merged

    merged(folder / "params.yaml", folder / "own.yaml")


def _values(folder: Path, count: int, seed: int) -> tuple[Any, list[Any]]:
    from minivlm.config import read_yaml

    values = read_yaml(ROOT / "params.yaml", "params.yaml")
    keys: list[tuple[str, ...]] = []
    waiting: list[tuple[tuple[str, ...], Any]] = [((), values)]
    while waiting:
        way, holder = waiting.pop()
        for key in [*holder, "unknown"] if isinstance(holder, dict) else ():
            keys.append((*way, key))
            waiting.append(((*way, key), holder.get(key)))
    keys += [
        ("base", "texts"),
        ("base", "llm", "pretrained"),
        ("download", "hub", "sft"),
        ("download", "local", "sft"),
    ]
    return values, examples(changes(sorted(set(keys))), count, seed)


_CHANGED: dict[str, Any] = {}  # an example holds what no file can: it is used as it is


def _make_values(prepared: tuple[Any, list[Any]], random: Random, number: int, folder: Path) -> None:
    values, drawn = prepared
    changed = json.loads(json.dumps(values))
    for way, value in drawn[number % len(drawn)]:
        holder = changed
        for key in way[:-1]:
            holder = holder.setdefault(key, {}) if isinstance(holder, dict) else {}
        if isinstance(holder, dict):
            holder[way[-1]] = value.of(holder.get(way[-1], 1)) if isinstance(value, Times) else value
    write_values(folder, changed, plans=random.random() < 0.7)


def write_values(folder: Path, values: Any, *, plans: bool) -> None:
    """An input: values, and whether the stages are to be planned with them, beside the project's own data/."""
    _CHANGED["values"], _CHANGED["plans"] = values, plans
    (folder / "values.txt").write_text(ascii(values))
    (folder / "data").symlink_to(ROOT / "data")


def use_values(folder: Path) -> None:
    from minivlm.config import parse_params
    from minivlm.config.explain import values
    from minivlm.paths import STAGES, Paths
    from minivlm.planning import plan

    params = parse_params(_CHANGED["values"])
    list(values(params))
    for stage in STAGES if _CHANGED["plans"] else ():
        plan(stage, params, Paths(folder))


KINDS = (
    Kind("params.yaml as text", 130, _texts, _make_text, _use_text),
    Kind("values of params.yaml", 150, _values, _make_values, use_values, 60.0),
    Kind("profiles", 50, _texts, _make_profile, _use_profile),
)
