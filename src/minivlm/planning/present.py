"""What upstream artifacts can be believed: those that are there and were made with the present parameters.

dvc.lock holds, for each stage, the parameters of its last run. Where one of them has another value in params.yaml
now, the stage will run again, and so will all that come after it: what lies in artifacts/ is then of another run.
Without an entry there (a stage started by hand) an artifact counts as it is.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from minivlm.errors import UserError
from minivlm.paths import STAGES, Paths, short

AFTER = {
    "download": (),
    "validate": ("download",),
    "base": ("validate",),
    "tokenize": ("base",),
    "pretrain": ("tokenize",),
    "sft": ("pretrain",),
    "evaluate": ("sft",),
}
"""Stage → the last stages that it builds on, as dvc.yaml chains them."""


class Present:
    """The artifacts of a checkout; reading nothing until it is asked."""

    def __init__(self, paths: Paths, values: dict[str, Any] | None = None) -> None:
        """`values`: parameters to compare with instead of those in params.yaml, as plain values."""
        self.paths = paths
        if values is not None:
            self._values = values

    def has(self, stage: str) -> bool:
        """Whether `stage` has artifacts of the present parameters."""
        return self.paths.artifacts(stage).is_dir() and not self.changed(stage)

    def why_not(self, stage: str) -> str:
        """Why the artifacts of `stage` do not count, in words for a plan."""
        changed = self.changed(stage)
        if changed and self.paths.artifacts(stage).is_dir():
            return f"artifacts/{stage} is of other parameters ({changed})"
        return f"{stage} has not run"

    def changed(self, stage: str) -> str:
        """The first parameter, of `stage` or one before it, that differs from its last run; "" when none does."""
        for name in (*self._before(stage), stage):
            section = self._locked.get(name, {}).get("params") or {}
            for key, old in (section.get("params.yaml") or {}).items():
                difference = _difference(key, old, _value(self._values, key))
                if difference:
                    return difference
        return ""

    def name(self, path: Path) -> str:
        """A path as a plan names it: from the checkout's root where it lies inside."""
        return short(path, self.paths.root)

    def _before(self, stage: str) -> list[str]:
        found: list[str] = []
        for name in AFTER[stage]:
            found += [*self._before(name), name]
        return sorted(found, key=STAGES.index)

    @cached_property
    def _values(self) -> dict[str, Any]:
        return _yaml(self.paths.params)

    @cached_property
    def _locked(self) -> dict[str, Any]:
        return _yaml(self.paths.root / "dvc.lock").get("stages", {})


def _yaml(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(path) or {}
    except FileNotFoundError:
        return {}
    except YAMLError as error:
        raise UserError(f"{path.name}: not valid YAML: {' '.join(str(error).split())}") from None


def _value(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _difference(key: str, old: Any, new: Any) -> str:
    """`sft.epochs: 1 → 2` for the first value in which two trees differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            if found := _difference(f"{key}.{name}", old.get(name), new.get(name)):
                return found
        return ""
    return "" if old == new else f"{key}: {_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    return "(none)" if value is None else "(a section)" if isinstance(value, dict) else str(value)
