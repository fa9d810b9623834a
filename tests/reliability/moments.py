"""When a training is killed: most often in the middle of its steps, sometimes while it starts or after the last.

A moment is one of the training's own steps, and time from there on: a busy machine does not move it.
"""

from __future__ import annotations

import math
import random
import subprocess
import time
from collections import Counter
from dataclasses import dataclass

from tests.integration.toy_stage import Stage

PHASES = {"starting": 1, "training": 3, "ending": 1}  # how often each is drawn, against the others
_POLL_SECONDS = 0.002


@dataclass(frozen=True)
class Moment:
    """When to kill: in one of PHASES, at a share of it from 0 to 1; all of the session, or the stage alone."""

    phase: str
    share: float
    everything: bool


@dataclass
class Whole:
    """What a training that nobody killed has written, and how long its phases took."""

    outputs: dict[str, str]
    points: Counter[tuple[str, int]]  # metric and step, in MLflow
    steps: int
    seconds: dict[str, float]  # by phase


def drawn(draw: random.Random) -> Moment:
    """A moment at random."""
    [phase] = draw.choices(list(PHASES), list(PHASES.values()))
    return Moment(phase, draw.random(), draw.random() < 0.5)


def reach(process: subprocess.Popen[str], stage: Stage, whole: Whole, moment: Moment) -> tuple[str, str]:
    """Wait for the moment, or the end of the process; the phase that it is in, and in words where."""
    told, seconds = steps_told(stage), whole.seconds
    if moment.phase == "starting" or told == whole.steps:  # all steps are told: no new one is to be waited for
        most = seconds["starting"] + (seconds["ending"] if told == whole.steps else 0.0)
        wait_for(process, stage, None, moment.share * most)
        return "starting" if told < whole.steps else "ending", f"{moment.share * most:.2f} s after its start"
    step, delay = whole.steps, moment.share * seconds["ending"]
    if moment.phase == "training":
        exact = moment.share * (whole.steps - told - 1)
        step, delay = told + 1 + int(exact), exact % 1 * seconds["training"] / whole.steps
    wait_for(process, stage, step)
    wait_for(process, stage, None, delay)
    return moment.phase, f"{delay:.3f} s after step {step}"


def wait_for(process: subprocess.Popen[str], stage: Stage, step: int | None, seconds: float = math.inf) -> None:
    """Wait until a step is logged, the process has ended, or time is up."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end and (step is None or steps_told(stage) < step):
        time.sleep(_POLL_SECONDS)


def steps_told(stage: Stage) -> int:
    """How many steps the training in the checkout has logged, its earlier processes included."""
    return sum(path.read_bytes().count(b"\n") for path in stage.root.glob(".state/pretrain/[!.]*/points.jsonl"))


def last_saved(stage: Stage) -> int:
    """The step of the last saved state; 0 without one."""
    return max((int(path.name[5:13]) for path in stage.root.glob(".state/pretrain/[!.]*/step-*")), default=0)
