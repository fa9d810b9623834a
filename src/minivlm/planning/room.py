"""Memory and disk of an estimate, from the plans of the stages, and what all stages take together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minivlm.planning.ranges import Range, total

MEMORY = (
    0.6,
    "the plan's bound is the high end; whole processes took 0.6 to 0.8 of it on a CPU (docs/profiles.md)",
)


def room(planned: Mapping[str, Any]) -> dict[str, Any]:
    """Memory and disk with their ranges, from the stage's plan."""
    found: dict[str, Any] = {}
    for name in ("memory", "gpu_memory"):
        if name not in planned:
            continue
        bound = planned[name]
        if bound is None:
            found |= {name: None, f"{name}_why": planned[f"{name}_why"]}
            continue
        found[name] = {"low": round(MEMORY[0] * bound["bytes"]), "high": bound["bytes"], "from": MEMORY[1]}
        found[name] |= {
            key: bound[key]["bytes"] if key == "machine" else bound[key]
            for key in ("machine", "enough")
            if key in bound
        }
    disk = planned["disk"]
    needed = disk["needed"] or disk.get("needed_at_least")
    if needed is None:
        return found | {"disk": None, "disk_why": disk["needed_why"]}
    found["disk"] = {
        "low": needed["bytes"],
        "high": 2 * needed["bytes"],
        "from": "outputs once, or twice where DVC has to copy them into its cache",
        "free": disk["free"]["bytes"],
    }
    if disk["needed"] is None:
        found["disk"]["at_least"] = disk["needed_why"]
    return found


def disk_of_features(features: Mapping[str, Any]) -> dict[str, int]:
    """Bytes of the feature cache at least and at most; the least for both where the most is not known."""
    least = features["needed_at_least"]["bytes"]
    return {"low": least, "high": least if features["needed"] is None else features["needed"]["bytes"]}


def totals(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of what is known, and which stages are not in it."""
    missing = [stage for stage, entry in stages.items() if entry["seconds"] is None]
    sums: dict[str, Any] = {"without": missing}
    for name in ("seconds", "hours", "money"):
        known = [Range(**entry[name]) for entry in stages.values() if entry.get(name) is not None]
        sums[name] = total(known).fields() if known else None
    disks = [entry["disk"] for entry in stages.values() if entry.get("disk")]
    # Both stages read one cache of features, which DVC does not copy.
    caches = [disk_of_features(entry["features"]) for entry in stages.values() if "features" in entry]
    shared = {end: max((cache[end] for cache in caches), default=0) for end in ("low", "high")}
    sums["disk"] = {end: sum(disk[end] for disk in disks) + shared[end] for end in shared} if disks else None
    sums["disk_without"] = [stage for stage, entry in stages.items() if not entry.get("disk")]
    return sums
