"""Time of the stages that no probe runs: from what was measured on this machine before, else unknown.

validate and tokenize: rows/s of `benchmarks/results/rows.json`, whose rows share their pictures; validate decodes
each picture once, which takes what `loader.json` says. base: the cost.json of its last run, where that was of the
present parameters. The rest depends on networks and on what models say, and is left open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from minivlm import hardware
from minivlm.config import Params
from minivlm.device import resolve_device
from minivlm.files import read_json
from minivlm.planning.figures import total
from minivlm.planning.present import Present
from minivlm.planning.ranges import Factor, Range, with_factors
from minivlm.planning.rows import accepted_rows, downloaded_rows, splits

AGAIN = Factor("time", 0.8, 1.25, "measured on this machine before, under conditions of then: assumed")
_NOT_HERE = "not measured on this machine; python -m benchmarks.loader does"
_OPEN = {
    "download": "drawing or fetching: depends on the network and the source",
    "evaluate": "depends on how much the models say",
}


@dataclass(frozen=True)
class Seconds:
    """Seconds of a stage with their factors and details, or None and why."""

    value: Range | None
    factors: list[Factor] = field(default_factory=list)
    why: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def unknown(cls, why: str) -> Seconds:
        """Nothing is known."""
        return cls(None, why=why)


def other_stage(stage: str, params: Params, present: Present) -> Seconds:
    """The seconds of a stage that is no training of the vision-language model."""
    if stage == "base":
        return _base(params, present)
    if stage in ("validate", "tokenize"):
        return _by_rows(stage, params, present)
    return Seconds.unknown(_OPEN[stage])


def _base(params: Params, present: Present) -> Seconds:
    if "train" not in (params.base.tower_source, params.base.llm_source):
        return Seconds.unknown("nothing is trained; fetching or copying models depends on network and disk")
    path = present.paths.reports("base") / "cost.json"
    if not path.is_file() or not present.has("base"):
        return Seconds.unknown("not measured with these parameters; after a run reports/base/cost.json says it")
    try:
        before = read_json(path)
        device, flops, seconds = before["device"], int(before["flops"]), float(before["seconds"])
    except (ValueError, TypeError, LookupError):
        return Seconds.unknown("reports/base/cost.json is damaged")
    name = hardware.device_name(resolve_device(params.runtime.device))
    if device != name:
        return Seconds.unknown(f"reports/base/cost.json is of another device: {device}")
    found = {"counted_from": "reports/base/cost.json", "flops": flops}
    return Seconds(with_factors(seconds, [AGAIN]), [AGAIN], details=found)


def _by_rows(stage: str, params: Params, present: Present) -> Seconds:
    """Rows over rows/s; the range holds the rates at every number of rows that was measured."""
    path = present.paths.root / "benchmarks" / "results" / "rows.json"
    if not path.is_file():
        return Seconds.unknown("not measured here: python -m benchmarks.rows")
    try:
        results = read_json(path)
        cpu = (results.get("machine") or {}).get("cpu")
        measured = [(int(each["rows"]), float(each["rows_per_second"])) for each in results.get(stage) or []]
        if not all(rate > 0 for _, rate in measured):
            raise ValueError
    except (ValueError, TypeError, LookupError, AttributeError):
        return Seconds.unknown("benchmarks/results/rows.json is damaged; again: python -m benchmarks.rows")
    if cpu != hardware.cpu_model():
        return Seconds.unknown(f"benchmarks/results/rows.json is of another machine: {cpu}")
    if not measured:
        return Seconds.unknown(f"benchmarks/results/rows.json has no {stage}")
    count = downloaded_rows if stage == "validate" else accepted_rows
    rows = total({split: count(split, params, present) for split in splits(params, present)})
    if rows.value is None:
        return Seconds.unknown(f"rows unknown: {rows.source}")
    if not rows.value:
        return Seconds.unknown("no rows")
    _, rate = min(measured, key=lambda each: abs(each[0] - (rows.value or 0)))
    rates = [each for _, each in measured]
    spread = Factor("rows/s", rate / max(rates), rate / min(rates), "at every number of rows that was measured")
    details = {"rows": rows.value, "counted_from": f"benchmarks/results/rows.json; rows: {rows.source}"}
    seconds, factors = rows.value / rate, [spread, AGAIN]
    if stage == "validate":
        workers = params.runtime.workers or hardware.cores()
        if (found := _decoding(present)) is None:
            details["note"] = f"without decoding a picture for each row: {_NOT_HERE}"
        else:
            low, high = (rows.value * each / workers for each in found)
            without, seconds = seconds, seconds + math.sqrt(low * high)
            said = f"{1000 * found[0]:.2g} to {1000 * found[1]:.2g} ms a picture; none where rows share pictures"
            factors.append(Factor("decoding", without / seconds, (without + high) / seconds, said))
    return Seconds(with_factors(seconds, factors), factors, details=details)


def _decoding(present: Present) -> tuple[float, float] | None:
    """Seconds a picture, of the fastest and the slowest size that was measured on this machine; None: none was."""
    path = present.paths.root / "benchmarks" / "results" / "loader.json"
    try:
        results = read_json(path)
        cpu = (results.get("machine") or {}).get("cpu")
        times = [float(each["milliseconds"]) / 1000 for each in results["decoding"]]
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None
    return (min(times), max(times)) if cpu == hardware.cpu_model() and times and min(times) > 0 else None
