"""A training step of this project against a plain one that works as the original's, interleaved, at true size.

    python -m benchmarks.step                    # a CPU: about 8 minutes on two cores
    python -m benchmarks.step --device cuda      # 240 steady steps of each stage, decoding in worker processes

Both sides start from the same weights and train on the same rows: this project through `fit`, its training loop,
with batches of like lengths; the reference (reference.py) as the original does. Before anything is timed their
losses on the same rows must agree. Figures are medians over the repeats, in turn A B A B. The reference pads every
row to one length, so that any of its batches costs the same: it takes some of the rows of a repeat.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.comparing import Options, compare

PREFETCHED = 4  # batches that a worker has ready when a segment begins: they say nothing of steady work

COUNTS = {
    "padding_share": "padding",
    "padded_tokens_per_row": "tokens/row",
    "logit_positions_per_supervised_token": "logits/target",
    "tower_runs_per_picture": "tower/picture",
}
"""Keys of `counts` → heads of the table."""


def print_tables(found: Mapping[str, Any]) -> None:
    """Speeds, parts of a step and counts, by stage."""
    from benchmarks.record import table
    from benchmarks.setting import STAGES

    stages = {stage: found[stage] for stage in STAGES if stage in found}
    speeds = [
        {
            "stage": stage,
            "rows/s": each["samples_per_second"],
            "ref.": each["reference_samples_per_second"],
            "ratio": each["ratio"],
            "from": each["ratio_range"][0],
            "to": each["ratio_range"][1],
            "padding": each["padding_share"],
            "GFLOP/row": each["operations_per_sample"] / 1e9,
        }
        for stage, each in stages.items()
    ]
    table(speeds, "Training steps")
    rows = [
        {"stage": stage, "side": side, **parts}
        for stage, each in stages.items()
        for side, parts in each["parts"].items()
    ]
    table(rows, "Milliseconds a sample, by part of a step")
    counts = [
        {"stage": stage, "side": side, **{shown: counted[name] for name, shown in COUNTS.items()}}
        for stage, each in stages.items()
        for side, counted in each["counts"].items()
    ]
    table(counts, "What is computed")
    hours = [
        {"device": name, "at its peak": each["hours_at_peak"], "at this MFU": each["assumed_mfu"]}
        | {"hours": each["hours"], "from": each["hours_low"], "to": each["hours_high"]}
        for name, each in found["schedule"]["devices"].items()
    ]
    table(hours, "The original's schedule, hours computed")
    if measured := found["schedule"]["measured"]:
        row = {side: measured[f"{side}_hours"]["total"] for side in ("ours", "reference")}
        table([{"device": measured["device"], **row, **(measured["mfu"] or {})}], "Hours and MFU measured")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    given = parser("step", __doc__).parse_args(arguments)
    from benchmarks.record import destination, record
    from benchmarks.reference import DEFAULTS
    from benchmarks.setting import FREEZE, profile

    directory = destination(given.directory, given.quick)

    values = profile()
    options = choose(given, {stage: values[stage]["batch_tokens"] for stage in FREEZE})
    with tempfile.TemporaryDirectory(prefix="minivlm-step-") as folder:
        found = compare(options, values["base"], DEFAULTS, Path(folder))
    print_tables(found)
    # A GPU's figures lie beside the CPU's, whose ratios other programs read.
    name = "step_gpu" if options.device.startswith("cuda") else "step"
    print(record(name, found, repeats=options.repeats, directory=directory))


def choose(given: argparse.Namespace, batch_tokens: Mapping[str, int]) -> Options:
    """The options, by device where they were not given. `batch_tokens`: the profile's, by stage."""
    from minivlm.device import resolve_device, resolve_precision
    from minivlm.hardware import cores

    device = resolve_device(given.device)
    gpu = device.startswith("cuda")
    steps = {"pretrain": 60, "sft": 60} if gpu else {"pretrain": 2, "sft": 8}
    if given.quick:
        steps = {stage: max(1, count // 4) for stage, count in steps.items()}
    workers = min(12, max(1, cores() - 2)) if gpu else 0
    tokens = given.batch_tokens or (65_536 if gpu else None)
    return Options(
        device=device,
        precision=resolve_precision(given.precision, device),
        stages=tuple(given.stages),
        rows=given.rows or (8192 if gpu else 1024),
        repeats=given.repeats or (1 if given.quick else 4 if gpu else 5),
        steps={stage: given.steps or count for stage, count in steps.items()},
        reference_steps=(given.steps or steps["pretrain"]) if gpu else 1,
        warm_up=PREFETCHED * workers + 4 if gpu else 0,
        batch_tokens={stage: tokens or batch_tokens[stage] for stage in steps},
        workers=workers,
        compile=given.compile,
    )


def parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """The options of benchmarks.step, which benchmarks.features has too."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    made.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    made.add_argument("--stages", nargs="+", default=["pretrain", "sft"], choices=("pretrain", "sft"))
    made.add_argument("--rows", type=int, help="rows in the store, each with a picture of its own")
    made.add_argument("--repeats", type=int, help="timed repeats of both sides")
    made.add_argument("--steps", type=int, help="steps of this project in a repeat")
    made.add_argument("--batch-tokens", type=int, help="tokens of a batch; the profile's on a CPU")
    made.add_argument("--compile", action="store_true", help="torch.compile for this project's side")
    made.add_argument("--quick", action="store_true", help="one repeat of few steps: to see that it runs")
    made.add_argument("--directory", type=Path, help=f"where {name}.json goes: benchmarks/results by default")
    return made


if __name__ == "__main__":
    from benchmarks.record import run

    run(main)
