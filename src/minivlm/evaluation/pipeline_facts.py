"""What the page draws of the pipeline: the stages and what they read (dvc.yaml), and their state (dvc.lock).

Only parameters are compared with dvc.lock, because that takes no time; `dvc status` compares every file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any


@dataclass(frozen=True)
class StageFacts:
    """A stage: `reads` maps a stage before it, or `data`, to the paths that it reads of it.

    `state`: `done`, `changed` (its parameters are others now: `changed`) or `new` (never run here).
    """

    name: str
    reads: dict[str, list[str]]
    state: str
    changed: tuple[str, ...] = ()


def read_pipeline(root: Path, running: str | None = None) -> list[StageFacts]:
    """The stages of dvc.yaml in their order; empty without the file.

    `running`: a stage that dvc.lock does not know yet, because it has just made its outputs.
    """
    if not (root / "dvc.yaml").exists():
        return []
    stages = _yaml(root / "dvc.yaml")["stages"]
    locked = _yaml(root / "dvc.lock").get("stages", {}) if (root / "dvc.lock").exists() else {}
    params = _yaml(root / "params.yaml") if (root / "params.yaml").exists() else {}
    outs = {name: _outs(stage) for name, stage in stages.items()} | {"data": ["data"]}
    found = []
    for name, stage in stages.items():
        reads = {
            other: sorted({dep for dep in stage["deps"] if any(_overlaps(dep, out) for out in made)})
            for other, made in outs.items()
            if other != name
        }
        changed = _changed(locked.get(name, {}).get("params", {}).get("params.yaml", {}), params)
        state = "done" if name == running else "new" if name not in locked else "changed" if changed else "done"
        found.append(
            StageFacts(name, {k: v for k, v in reads.items() if v}, state, changed if state == "changed" else ())
        )
    return found


def _outs(stage: Mapping[str, Any]) -> list[str]:
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return [next(iter(entry)) if isinstance(entry, Mapping) else entry for entry in entries]


def _overlaps(one: str, other: str) -> bool:
    """Whether one path is the other or lies inside it."""
    a, b = PurePosixPath(one), PurePosixPath(other)
    return a == b or a in b.parents or b in a.parents


def _changed(locked: Mapping[str, Any], params: Mapping[str, Any]) -> tuple[str, ...]:
    """Dotted names of the parameters whose value is not the one of dvc.lock."""
    names: list[str] = []
    for key, value in locked.items():
        now: Any = params
        for part in key.split("."):
            now = now.get(part) if isinstance(now, Mapping) else None
        if isinstance(value, Mapping) and isinstance(now, Mapping):
            inner = dict.fromkeys([*value, *now])
            names += [f"{key}.{name}" for name in inner if value.get(name) != now.get(name)]
        elif value != now:
            names.append(key)
    return tuple(names)


def _yaml(path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8")) or {}
    except YAMLError as error:
        raise ValueError(f"{path.name}: {' '.join(str(error).split())[:200]}") from error
