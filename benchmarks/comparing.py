"""Both sides in turn on the same rows: losses that must agree first, then times, parts of a step and counts."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.clock import Segment
    from benchmarks.reference import Defaults
    from benchmarks.reference_side import Theirs
    from benchmarks.setting import Setting
    from benchmarks.sides import Ours

TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
"""By how much losses may differ, relative to the reference's; bf16 has 8 bits, and sums are ordered otherwise."""


COUNTED = 8  # batches of this project that are counted and timed part by part, at most


@dataclass(frozen=True)
class Options:
    """How much is measured, and on what."""

    device: str
    precision: str
    stages: tuple[str, ...]
    rows: int
    repeats: int
    steps: Mapping[str, int]  # of this project in a repeat, by stage
    reference_steps: int
    warm_up: int
    batch_tokens: Mapping[str, int]
    workers: int
    compile: bool = False


def compare(
    options: Options, base: Mapping[str, Any], defaults: Mapping[str, Defaults], folder: Path
) -> dict[str, Any]:
    """What step.json holds, machine and versions aside. `base`: sizes, `defaults`: the reference's, by stage."""
    from benchmarks.schedule import schedule
    from benchmarks.setting import write_setting

    longest = {stage: values.max_length for stage, values in defaults.items()}
    setting = write_setting(folder, base, rows=options.rows, longest=longest)
    stages = {stage: compare_stage(stage, setting, options, defaults[stage]) for stage in options.stages}
    return {
        **stages,
        "schedule": schedule(stages, setting.model().config, options.device),
        "measured_on": about(options, base),
    }


def this_project(setting: Setting, stage: str, options: Options) -> Ours:
    """This project's side of a comparison, as the options have it."""
    from benchmarks.sides import Ours

    return Ours(
        setting,
        stage,
        device=options.device,
        precision=options.precision,
        batch_tokens=options.batch_tokens[stage],
        workers=options.workers,
    )


def compare_stage(stage: str, setting: Setting, options: Options, defaults: Defaults) -> dict[str, Any]:
    """Ratio, samples/s, time by part and counts of one stage. UserError when the losses differ."""
    from benchmarks.reference_side import Theirs

    ours = this_project(setting, stage, options)
    theirs = Theirs(setting, stage, device=options.device, defaults=defaults, workers=_reference_workers(options))
    losses = check_losses(stage, ours, theirs)
    [sample] = ours.plan(min(options.steps[stage], COUNTED))
    counts = {"ours": ours.work(sample), "reference": theirs.work(1)}
    if options.compile:
        ours.compile()
    with ours.converted():
        times = interleaved(stage, ours, theirs, options)
    parts = {"ours": parts_of(ours, sample), "reference": parts_of(theirs, 1)}
    return figures(times) | {"loss": losses, "counts": counts, "parts": parts}


def check_losses(stage: str, ours: Ours, theirs: Theirs) -> dict[str, float]:
    """Both losses on the rows of the reference's first batch, in float32 and in each side's precision."""
    from minivlm.errors import UserError

    rows = theirs.rows(1)
    found: dict[str, float] = {}
    for low in (False, True):
        name = "trained" if low else "fp32"
        a, b = ours.loss(rows, low), theirs.loss(rows, low)
        tolerance = TOLERANCE[ours.precision if low else "fp32"]
        if not abs(a - b) <= tolerance * abs(b):
            raise UserError(f"{stage}: loss {a:.6f} ({name}) where the reference has {b:.6f}: nothing is timed")
        found |= {f"ours_{name}": a, f"reference_{name}": b}
    return found


def interleaved(stage: str, ours: Ours, theirs: Theirs, options: Options) -> list[tuple[Segment, Segment]]:
    """(ours, reference) of every repeat; one repeat before them warms up and is not kept.

    The reference's rows are some of those that this project trains on in the same repeat.
    """
    import numpy as np
    import torch

    from benchmarks.clock import Meter
    from benchmarks.fitting import fit_stream
    from minivlm.training.device import seed_everything

    seed_everything(0, torch.get_num_threads())
    times: list[tuple[Segment, Segment]] = []
    steps, repeats = options.steps[stage], options.repeats + 1
    # At the start of a segment: what workers have waiting then is not steady work. As many batches follow its end,
    # so that they do not run out of work while it is timed.
    warm_up = options.warm_up
    plan = ours.plan(warm_up + steps + warm_up, repeats)
    random = np.random.default_rng(0)

    def stream() -> Iterator[list[Any]]:
        for repeat in range(repeats):
            batches = ours.batches(plan[repeat])
            for _ in range(warm_up):
                yield [next(batches)]
            meter = Meter(options.device, beside=theirs.held())
            for _ in range(steps):
                batch = next(batches)
                meter.add(batch)
                yield [batch]
            measured = meter.stop()
            del batches  # and with them the worker processes, before the other side's start
            timed = plan[repeat][warm_up : warm_up + steps]
            measured = replace(measured, operations=sum(map(ours.operations, timed)))
            rows = random.permutation(np.concatenate(plan[repeat])).tolist()
            times.append((measured, _reference_segment(theirs, rows, options)))
            if repeat:
                _say(stage, repeat, options.repeats, *times[-1])
        yield list(ours.batches(plan[0][:1], workers=0))  # the loop asks for no step after its last one

    total = repeats * (steps + warm_up) + 1
    rate = theirs.defaults.learning_rate
    fit_stream(ours, stream(), total, learning_rate=rate, label=f"{stage}, this project")
    torch.use_deterministic_algorithms(False)
    return times[1:]


def _reference_segment(theirs: Theirs, rows: Sequence[int], options: Options) -> Segment:
    import torch

    from benchmarks.clock import Meter

    torch.use_deterministic_algorithms(False)  # the original does not ask for them
    steps, warm_up = options.reference_steps, options.warm_up
    batches = theirs.batches(theirs.rows(warm_up + steps + warm_up, rows))
    theirs.steps(islice(batches, warm_up))
    is_gpu = options.device.startswith("cuda")
    here = torch.cuda.memory_allocated(options.device) if is_gpu else 0
    meter = Meter(options.device, beside=here - theirs.held())
    done = theirs.steps(islice(batches, steps))
    segment = replace(meter.stop(), rows=done, steps=steps)
    torch.use_deterministic_algorithms(True, warn_only=True)
    return segment


def parts_of(side: Ours | Theirs, steps: Any) -> dict[str, float]:
    """Milliseconds a row by part of a step: decode, tower, llm_forward, backward, optimizer."""
    from benchmarks.clock import Phases

    phases = Phases(side.device)
    with phases.of_method(*side.tower, "tower"):
        rows = side.step_in_phases(steps, phases)
    seconds = dict(phases.seconds)
    seconds["llm_forward"] = seconds.pop("forward") - seconds["tower"]
    order = ("decode", "tower", "llm_forward", "backward", "optimizer")
    return {name: 1000 * seconds[name] / rows for name in order}


def figures(times: Sequence[tuple[Segment, Segment]]) -> dict[str, Any]:
    """Medians over the repeats; `ratio` is that of the medians, `ratio_range` of single repeats."""
    speeds = [[segment.rows / segment.seconds for segment in side] for side in zip(*times, strict=True)]
    ours, theirs = (statistics.median(side) for side in speeds)
    ratios = [a / b for a, b in zip(*speeds, strict=True)]
    mine = [segment for segment, _ in times]
    rows, seconds = sum(s.rows for s in mine), sum(s.seconds for s in mine)
    tokens, padded = sum(s.tokens for s in mine), sum(s.padded_tokens for s in mine)
    memory = [[s.memory_bytes for s in side if s.memory_bytes] for side in zip(*times, strict=True)]
    return {
        "ratio": ours / theirs,
        "ratio_range": [min(ratios), max(ratios)],
        "samples_per_second": ours,
        "reference_samples_per_second": theirs,
        "tokens_per_second": tokens / seconds,
        "padding_share": 1 - tokens / padded,
        "operations_per_sample": sum(s.operations for s in mine) / rows,
        "operations_per_second": sum(s.operations for s in mine) / rows * ours,
        "steps": sum(s.steps for s in mine),
        "reference_steps": sum(s.steps for _, s in times),
        "peak_memory_bytes": max(memory[0], default=None),
        "reference_peak_memory_bytes": max(memory[1], default=None),
    }


def about(options: Options, base: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes, rows and batches that the figures hold for."""
    import torch

    tower, llm = base["vision_tower"], base["llm"]
    side = tower["image_size"]
    return {
        "device": options.device,
        "precision": options.precision,
        "reference_precision": "bf16 autocast" if options.device.startswith("cuda") else "fp32",
        "compile": options.compile,
        "threads": torch.get_num_threads(),
        "workers": options.workers,
        "reference_workers": _reference_workers(options),
        "tower": f"{tower['hidden_size']} x {tower['layers']}, {side} pixels in {tower['patch_size']}s",
        "llm": f"{llm['hidden_size']} x {llm['layers']}",
        "pictures": f"a JPEG of {side} x {side} pixels for each row, decoded in the step",
        "rows": options.rows,
        "batch_tokens": {stage: options.batch_tokens[stage] for stage in options.stages},
    }


def _reference_workers(options: Options) -> int:
    from benchmarks.reference import WORKERS

    return WORKERS if options.device.startswith("cuda") else 0


def _say(stage: str, repeat: int, repeats: int, ours: Segment, theirs: Segment) -> None:
    a, b = ours.rows / ours.seconds, theirs.rows / theirs.seconds
    print(f"{stage}: repeat {repeat} of {repeats}: {a:.2f} samples/s, reference {b:.2f}, {a / b:.1f}x", flush=True)
