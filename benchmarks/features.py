"""A training step that computes the vision tower's features, and one that reads them from the cache, interleaved.

    python -m benchmarks.features                    # a CPU
    python -m benchmarks.features --device cuda      # decoding and reading in worker processes

The model, the rows and the loop are those of benchmarks.step, at true size; every row has a picture of its own. In
turn: a repeat without the cache, and the same batches with it; figures are medians over the repeats. Filling the
cache is timed apart, in pictures a second: it happens once, however many epochs and stages read it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.comparing import Options
    from benchmarks.reference import Defaults
    from benchmarks.setting import Setting
    from benchmarks.sides import Ours
    from minivlm.data.features import FeatureStore

QUICK_ROWS = 64

Speeds = list[tuple[float, float]]
"""Samples a second of every repeat: without the cache, with it."""


def compare(
    options: Options, base: Mapping[str, Any], defaults: Mapping[str, Defaults], folder: Path
) -> dict[str, Any]:
    """What features.json holds, machine and versions aside; `base`: sizes, `defaults`: the original's."""
    import torch

    from benchmarks.comparing import this_project
    from benchmarks.setting import write_setting

    longest = {stage: values.max_length for stage, values in defaults.items()}
    setting = write_setting(folder, base, rows=options.rows, longest=longest)
    found: dict[str, Any] = {}
    for stage in options.stages:
        ours = this_project(setting, stage, options)
        # Of the first stage: the others read what it has filled.
        features, seconds = fill(setting, ours, folder / "features", options)
        if not found:
            held = sum(path.stat().st_size for path in (folder / "features").rglob("*") if path.is_file())
            found = {
                "pictures": options.rows,
                "fill_pictures_per_second": options.rows / seconds,
                "megabytes_per_picture": held / options.rows / 1e6,
            }
        found[stage] = figures(interleaved(ours, features, defaults[stage].learning_rate, options))
    about = {"device": options.device, "precision": options.precision, "threads": torch.get_num_threads()}
    batch_tokens = {stage: options.batch_tokens[stage] for stage in options.stages}
    return {
        **found,
        "measured_on": about
        | {"compile": options.compile, "workers": options.workers, "batch_tokens": batch_tokens},
    }


def fill(setting: Setting, ours: Ours, folder: Path, options: Options) -> tuple[FeatureStore, float]:
    """The features of the rows' pictures as a training has them made, and the seconds that it took."""
    from minivlm.training.feature_cache import open_features

    start = time.perf_counter()
    features, _ = open_features(
        folder,
        setting.base / "vision_tower",
        ours.tokens,
        setting.pictures(),
        ours.objective,
        precision=options.precision,
        device=options.device,
        workers=options.workers,
    )
    return features, time.perf_counter() - start


def interleaved(ours: Ours, features: FeatureStore, learning_rate: float, options: Options) -> Speeds:
    """The speeds of every repeat; one before them warms up and is not kept."""
    import torch

    from benchmarks.clock import Meter
    from benchmarks.fitting import fit_stream
    from minivlm.training.device import seed_everything

    seed_everything(0, torch.get_num_threads())
    stage, warm_up = ours.stage, options.warm_up
    steps, repeats = options.steps[stage], options.repeats + 1
    plan = ours.plan(warm_up + steps + warm_up, repeats)
    speeds: Speeds = []

    def stream() -> Iterator[list[Any]]:
        for repeat in range(repeats):
            pair = []
            for kept in (None, features):
                batches = ours.batches(plan[repeat], features=kept)
                for _ in range(warm_up):
                    yield [next(batches)]
                meter = Meter(options.device)
                for _ in range(steps):
                    batch = next(batches)
                    meter.add(batch)
                    yield [batch]
                measured = meter.stop()
                pair.append(measured.rows / measured.seconds)
                del batches  # and with them the worker processes
            if repeat:
                without, kept_speed = pair
                speeds.append((without, kept_speed))
                print(
                    f"{stage}: repeat {repeat} of {options.repeats}: {without:.2f} samples/s, "
                    f"{kept_speed:.2f} with kept features, {kept_speed / without:.2f}x",
                    flush=True,
                )
        yield list(ours.batches(plan[0][:1], workers=0))  # the loop asks for no step after its last one

    if options.compile:
        ours.compile()
    with ours.converted():
        total = 2 * repeats * (warm_up + steps) + 1
        fit_stream(ours, stream(), total, learning_rate=learning_rate, label=f"{stage}, kept features")
    torch.use_deterministic_algorithms(False)
    return speeds


def figures(speeds: Speeds) -> dict[str, Any]:
    """Medians over the repeats; `ratio` is that of the medians, `ratio_range` of single repeats."""
    without, kept = (statistics.median(side) for side in zip(*speeds, strict=True))
    ratios = [b / a for a, b in speeds]
    return {
        "samples_per_second": without,
        "kept_samples_per_second": kept,
        "ratio": kept / without,
        "ratio_range": [min(ratios), max(ratios)],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    from benchmarks.step import choose, parser

    given = _with_rows(parser("features", __doc__).parse_args(arguments))
    from benchmarks.record import destination, record, table
    from benchmarks.reference import DEFAULTS
    from benchmarks.setting import FREEZE, profile

    directory = destination(given.directory, given.quick)
    values = profile()
    options = choose(given, {stage: values[stage]["batch_tokens"] for stage in FREEZE})
    with tempfile.TemporaryDirectory(prefix="minivlm-features-") as folder:
        found = compare(options, values["base"], DEFAULTS, Path(folder))
    rows = [
        {
            "stage": stage,
            "rows/s": found[stage]["samples_per_second"],
            "kept": found[stage]["kept_samples_per_second"],
            "ratio": found[stage]["ratio"],
            "from": found[stage]["ratio_range"][0],
            "to": found[stage]["ratio_range"][1],
        }
        for stage in options.stages
    ]
    table(rows, "Steps that compute the tower, and with kept features")
    about = {"pictures/s": found["fill_pictures_per_second"], "MB/picture": found["megabytes_per_picture"]}
    table([about], "Filling the cache")
    print(record("features", found, repeats=options.repeats, directory=directory))


def _with_rows(given: argparse.Namespace) -> argparse.Namespace:
    """Few pictures for a quick pass: filling goes through all of them."""
    given.rows = given.rows or (QUICK_ROWS if given.quick else None)
    return given


if __name__ == "__main__":
    from benchmarks.record import run

    run(main)
