"""How long it takes until a model can answer: imports, the directory's files, and all since the process started.

    python -m benchmarks.loading

Each repeat is a process of its own, which does what `minivlm caption` does before its first picture. The system
has read the files before (a first repeat is thrown away). Models: one of true size with random weights, and the
trained one where there is one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PARTS = {"hashes": "files' hashes", "weights": "weights", "processor": "processor and a trial"}
"""What is done with a directory; the keys of a measurement's parts."""


def measure(directory: Path, repeats: int) -> dict[str, Any]:
    """Medians over processes, in seconds: see `load`."""
    command = [sys.executable, "-m", "benchmarks.loading", "--load", str(directory)]
    said = [subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout for _ in range(repeats + 1)][1:]
    runs = [json.loads(each) for each in said]
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def load(directory: Path) -> dict[str, float]:
    """Load a model in this process, which has imported nothing heavy yet.

    Seconds: `imports` of torch and transformers, `files` from the directory to a model that has answered a trial,
    and its parts; `ready` since the process was started; `processor_time` that all of it cost, over the cores.
    """
    import psutil

    from minivlm.generation import loading

    parts = dict.fromkeys(PARTS, 0.0)
    _timed(parts, "minivlm.model.fingerprint", "check_files", "hashes")
    _timed(parts, "minivlm.model.checkpoint", "load_strictly", "weights")
    _timed(parts, "minivlm.generation.loading", "load_processor", "processor")
    _, _, took = loading.load_measured(directory)
    ready = time.time() - psutil.Process().create_time()
    return {
        "imports_seconds": took.imports,
        "files_seconds": took.files,
        **{f"{name}_seconds": seconds for name, seconds in parts.items()},
        "ready_seconds": ready,
        "processor_time_seconds": time.process_time(),
    }


def _timed(parts: dict[str, float], module: str, name: str, part: str) -> None:
    """Have a function's seconds added up under `part`."""
    import importlib

    place = importlib.import_module(module)
    function: Callable[..., Any] = getattr(place, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            parts[part] += time.perf_counter() - start

    setattr(place, name, timed)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    given = _parser().parse_args(arguments)
    if given.load:
        print(json.dumps(load(given.load)))
        return
    from benchmarks.generation import RANDOM, write_random
    from benchmarks.record import destination, record, table
    from benchmarks.setting import profile
    from minivlm.paths import Paths

    results = destination(given.directory, given.quick)
    repeats = 1 if given.quick else given.repeats
    trained = given.model or Paths().model("sft")
    rows = []
    with tempfile.TemporaryDirectory(prefix="minivlm-loading-") as folder:
        models = {RANDOM: write_random(Path(folder), profile()["base"])[0]}
        if (trained / "config.json").is_file():
            models["trained"] = trained
        else:
            print(f"{trained}: no model there; the random one alone is measured")
        for name, place in models.items():
            size = (place / "model.safetensors").stat().st_size
            rows.append({"model": name, "megabytes": size / 1e6, **measure(place, repeats)})
    table([_shown(row) for row in rows], "Seconds until a model can answer")
    print(record("loading", {"models": rows}, repeats=repeats, directory=results))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {key.removesuffix("_seconds").replace("_", " "): value for key, value in row.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loading",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repeats", type=int, default=5, help="processes of each model")
    parser.add_argument("--model", type=Path, help="a LLaVA directory; artifacts/sft/model by default")
    parser.add_argument("--quick", action="store_true", help="one repeat: to see that it runs")
    parser.add_argument("--directory", type=Path, help="where loading.json goes: benchmarks/results by default")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)  # what a repeat runs
    return parser


if __name__ == "__main__":
    from benchmarks.record import run

    run(main)
