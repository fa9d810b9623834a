"""The runs of one reproduction belong together: one parent run for each execution of the pipeline.

DVC starts every stage as a process of its own. What the stages of one `dvc repro` have in common is that ancestor
process (its pid and the time it was started) and the experiment's name; both make the key under which the first
stage leaves the parent's id for the next ones. A stage that was started by hand is a reproduction of its own. An
execution that goes on where another was stopped goes on with its reproduction.
"""

import hashlib
import itertools
import os
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minivlm.files import read_json, write_json
from minivlm.locks import exclusive

_ID = re.compile("[0-9a-f]{16}")
# Of the curves of reproductions that follow each other, by Okabe and Ito: the colour-blind tell them apart too.
# The page's own are drawn by chance, and two reproductions often get the same.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A800")


@dataclass(frozen=True)
class Reproduction:
    """The parent run of this execution: this project's id of it, its name, and whether this stage made it."""

    run: str
    name: str
    is_new: bool
    file: Path

    @property
    def colour(self) -> str:
        """That of its curves in the page, another than of the reproductions around it."""
        return _COLOURS[len(list(self.file.parent.glob("*.json"))) % len(_COLOURS)]

    def add(self, stage: str, figures: dict[str, float]) -> dict[str, float]:
        """Keep a stage's figures and return the sums over the stages so far, e.g. of hours and money.

        A stage that runs again in the same execution replaces its figures.
        """
        with exclusive(self.file.with_suffix(".lock")):
            record = _read(self.file)
            figures_by_stage = record.setdefault("figures", {})
            figures_by_stage[stage] = figures
            write_json(self.file, record)
        totals: dict[str, float] = {}
        for values in figures_by_stage.values():
            for name, value in values.items():
                totals[name] = totals.get(name, 0.0) + value
        return totals

    def skipped(self, before: Sequence[str]) -> list[str]:
        """Of the stages `before` this one, those that neither ran in this reproduction nor were taken over yet."""
        record = _read(self.file)
        return [stage for stage in before if stage not in record.get("figures", {}) | _reused(record)]

    def take_over(self, outputs: dict[str, str], said: str) -> tuple[dict[str, str], str]:
        """Keep digests of what skipped stages left, and what the description begins with ("": what it began with).

        Returns all that was kept so far of both.
        """
        try:
            with exclusive(self.file.with_suffix(".lock")):
                record = _read(self.file)
                kept, said = _reused(record) | outputs, said or str(record.get("said", ""))
                write_json(self.file, record | {"reused": kept, "said": said})
                return kept, said
        except OSError:  # `add` says so, at the stage's end
            return outputs, said


def _is_dvc(command: list[str]) -> bool:
    if any(Path(word).name in ("dvc", "dvc.exe") for word in command[:2]):
        return True
    return any(pair == ("-m", "dvc") for pair in itertools.pairwise(command))


def execution_key() -> str | None:
    """What all stages of one pipeline execution have in common; None without a `dvc` ancestor."""
    import psutil

    try:
        for ancestor in psutil.Process().parents():
            try:
                found = _is_dvc(ancestor.cmdline())
            except psutil.Error:  # another user's process, or one that has just ended
                continue
            if found:
                experiment = os.environ.get("DVC_EXP_NAME", "")
                return f"{ancestor.pid}:{ancestor.create_time():.2f}:{experiment}"
    except psutil.Error:
        pass
    return None


def execution_id(key: str | None) -> str:
    """What names an execution in files, 16 hex digits, from its `execution_key`; without one, always another."""
    return hashlib.sha256((key or uuid.uuid4().hex).encode()).hexdigest()[:16]


def join(folder: Path, execution: str, commit: str | None, says: str = "", earlier: str = "") -> Reproduction:
    """The reproduction of `execution`, made when this is its first stage.

    Its name is the experiment's (DVC_EXP_NAME) or "<short commit> <n>", the n-th reproduction of this commit. A
    first stage that goes on with what the execution `earlier` has left takes up the reproduction of that one, as
    long as both say the same of themselves: `says` is a digest of the parameters and the code.
    """
    file, experiment = folder / f"{execution}.json", os.environ.get("DVC_EXP_NAME", "")
    with exclusive(folder / ".lock"):
        if record := _read(file):
            return Reproduction(record["run"], record["name"], False, file)
        about = {"says": says, "experiment": experiment}
        record = _read(folder / f"{earlier}.json") if _ID.fullmatch(earlier) else {}
        if about.items() <= record.items():
            write_json(file, record)
            return Reproduction(record["run"], record["name"], False, file)
        record = {"run": uuid.uuid4().hex, "name": experiment or _next_name(folder, commit), **about}
        write_json(file, record)
    return Reproduction(record["run"], record["name"], True, file)


def _read(file: Path) -> dict[str, Any]:
    """What was written down of an execution; {} where it is not there or damaged."""
    try:
        record = read_json(file)
        figures = record.get("figures", {}).values()
        numbers = [value for of_stage in figures for value in of_stage.values()]
        is_whole = {type(record["run"]), type(record["name"])} == {str} and set(map(type, numbers)) <= {float, int}
    except (OSError, ValueError, AttributeError, TypeError, KeyError, RecursionError):
        return {}
    return dict(record) if is_whole else {}


def _reused(record: dict[str, Any]) -> dict[str, str]:
    """What was taken over, by stages; {} where that is damaged."""
    found = record.get("reused", {})
    is_whole = isinstance(found, dict) and all(isinstance(digest, str) for digest in found.values())
    return dict(found) if is_whole else {}


def _next_name(folder: Path, commit: str | None) -> str:
    """Counts in a file of its own, so that old reproductions may be deleted."""
    counts_file = folder / "names" / "counts.json"
    short = commit[:7] if commit else "no commit"
    try:
        counts: dict[str, Any] = dict(read_json(counts_file))
        counts[short] = int(counts.get(short, 0)) + 1
    except (OSError, ValueError, TypeError, RecursionError):
        counts = {short: 1}  # the first one, or the file is damaged: it names runs and no more
    write_json(counts_file, counts)
    return f"{short} {counts[short]}"
