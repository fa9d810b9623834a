"""Journals of the tracker that were left, damaged: the next stage delivers them, and nothing of them ends it."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from tests.reliability.fuzz_kind import Kind
from tests.reliability.fuzz_mutation import mutate_bytes, mutate_value

_RUN: dict[str, Any] = {"name": "sft", "parent": None, "start": 1767225600000, "tags": {"stage": "sft"}}
_LINES: tuple[dict[str, Any], ...] = (
    {"format": 1, "stage": "sft", "pid": 4711, "created": 1767225600.0, "experiment": "minivlm", "server": ""},
    {"seq": 1, "op": "run", "run": "5e", **_RUN},
    {"seq": 2, "op": "params", "run": "5e", "params": {"sft.learning_rate": "0.0015"}},
    {"seq": 3, "op": "metrics", "run": "5e", "metrics": [["loss", 4.2, 1767225601000, 10]]},
    {"seq": 4, "op": "tags", "run": "5e", "tags": {"a": "b"}},
    {"delivered": 2},
    {"seq": 5, "op": "end", "run": "5e", "status": "FINISHED", "end": 1767225700000},
)


def _home(folder: Path, count: int, seed: int) -> None:
    (folder / "home").mkdir()


def _make(prepared: None, random: Random, number: int, folder: Path) -> None:
    lines = [json.dumps(line).encode() + b"\n" for line in _LINES]
    if random.random() < 0.5:
        place = random.randrange(len(lines))
        lines[place] = json.dumps(mutate_value(_LINES[place], random)).encode() + b"\n"
        data = b"".join(lines)
    else:
        data = mutate_bytes(b"".join(lines), random)
    (folder / "journals").mkdir()
    (folder / "journals" / "20260101T000000-sft-4711-000001.jsonl").write_bytes(data)


def _use(folder: Path) -> None:
    from minivlm.tracking.backlog import deliver_left

    deliver_left(folder / "journals", folder.parent / "seeds" / "home", "fuzz")


KINDS = (Kind("tracking journals", 20, _home, _make, _use, 60.0),)
