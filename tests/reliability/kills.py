"""Kill a training at random moments and start it again, until it has ended: it must be as if nothing had been.

    python -m tests.reliability.kills --number 50

Each training is killed with SIGKILL once to three times: the stage alone, or all processes of its session, as when
the power fails. Where a state was saved, the next process has to say that it goes on from the last one. What it
has written at last is compared with what an uninterrupted one writes, byte by byte, and its MLflow run holds every
step once. The log goes to docs/reliability/kills.log, the counts to docs/reliability.json.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from minivlm.files import read_json, sha256_tree, write_text
from minivlm.tracking.backlog import deliver_left
from tests.integration.toy_stage import ROOT, Stage, write_toy_inputs
from tests.reliability.moments import Moment, Whole, drawn, last_saved, reach, wait_for
from tests.reliability.record import record, unhandled

OUTPUTS = ("artifacts/pretrain", "reports/pretrain/loss.csv", "reports/pretrain/metrics.json")
SAVES = (0.0, 0.002, 0.02)  # minutes between two saved states: each step, a few, hardly one
MOST_KILLS = 3  # of one training
_DELIVERED_SECONDS = 60.0
EPOCHS = 40.0  # about as long as a stage takes to start


@dataclass
class Outcome:
    """What became of one training; `faults` is empty when nothing was lost and nothing doubled."""

    kills: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    phases: Counter[str] = field(default_factory=Counter)  # of the kills
    survived: int = 0
    resumed: int = 0  # processes that went on from a saved state
    lost_steps: int = 0
    doubled_metrics: int = 0
    unhandled: int = 0

    def figures(self, began: float) -> dict[str, float]:
        """What docs/reliability.json says of all trainings since `began`, of time.monotonic."""
        return {
            "faults": len(self.faults),
            "lost_steps": self.lost_steps,
            "doubled_metrics": self.doubled_metrics,
            "unhandled_exceptions": self.unhandled,
            "minutes": round((time.monotonic() - began) / 60, 1),
        }


def make_stage(root: Path, inputs: Path) -> Stage:
    """The toy stage with more steps, each of them logged, and MLflow."""
    return Stage(root, inputs).set(tracking=True, epochs=EPOCHS, log_steps=1)


def run_whole(stage: Stage) -> Whole:
    """The same training without a kill."""
    process, times = start(stage), [time.monotonic()]
    for step in (1, None):  # the first that is logged; the end
        wait_for(process, stage, step)
        times.append(time.monotonic())
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    [status] = tracked_runs(stage)
    assert status == "FINISHED", status
    points = tracked_points(stage)
    outputs = {name: sha256_tree(stage.root / name) for name in OUTPUTS}
    rows = stage.history()
    trained = read_json(stage.root / "reports/pretrain/cost.json")["seconds"]
    seconds = {"starting": times[1] - times[0], "training": trained, "ending": times[2] - times[1] - trained}
    return Whole(outputs, points, len(rows), seconds)


def killed_and_gone_on(stage: Stage, whole: Whole, moments: Sequence[Moment], save_minutes: float) -> Outcome:
    """Start, kill, start again, at each of the moments or until it has ended; then compare."""
    outcome = Outcome()
    stage.set(tracking=True, save_minutes=save_minutes)
    for moment in moments:
        saved, process = last_saved(stage), start(stage)
        phase, where = reach(process, stage, whole, moment)
        output, errors = kill(process, moment.everything)
        hold_against(saved, output, outcome)
        if process.returncode != -signal.SIGKILL:  # it was quicker
            if process.returncode:
                fail(outcome, process.returncode, errors)
            break
        what = "all its processes" if moment.everything else "the stage"
        outcome.kills.append(f"{what} {where}")
        outcome.phases[phase] += 1
        if has_ended(stage):
            break
    if not has_ended(stage) and not outcome.faults:
        saved = last_saved(stage)
        code, output, errors = stage.run()
        hold_against(saved, output, outcome)
        if code:
            fail(outcome, code, errors)
    if not outcome.faults:
        compare(stage, whole, outcome)
    return outcome


def fail(outcome: Outcome, code: int, errors: str) -> None:
    """Note a process that ended otherwise than it should."""
    outcome.unhandled += unhandled(errors)
    outcome.faults.append(f"exit code {code}: {errors.strip().splitlines()[-1:]}")


def hold_against(saved: int, output: str, outcome: Outcome) -> None:
    """A process that was started when the state of a step was saved has to have gone on after that step."""
    began = re.search(r"^pretrain: trains .*$", output, re.MULTILINE)
    if not began:
        return  # killed before
    found = re.search(r"goes on after step ([\d,]+)", began[0])
    after = int(found[1].replace(",", "")) if found else 0
    outcome.resumed += after > 0
    if after != saved:
        outcome.faults.append(f"the state of step {saved} was there, and it went on after step {after}")


def has_ended(stage: Stage) -> bool:
    """Whether nothing was left to do but for the process to go."""
    is_written = (stage.root / "reports/pretrain/metrics.json").exists()
    return is_written and not list((stage.root / ".state").glob("pretrain/[!.]*"))


def start(stage: Stage) -> subprocess.Popen[str]:
    """The stage in a session of its own."""
    return stage.start(start_new_session=True)


def kill(process: subprocess.Popen[str], everything: bool) -> tuple[str, str]:
    """SIGKILL; what it had said on standard output and on stderr."""
    if process.poll() is None:
        if everything:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    return process.communicate()


def compare(stage: Stage, whole: Whole, outcome: Outcome) -> None:
    """Outputs by their bytes; of MLflow, one run of one reproduction, ended, with every point once."""
    for name, expected in whole.outputs.items():
        if sha256_tree(stage.root / name) != expected:
            outcome.faults.append(f"{name} has other bytes")
    outcome.lost_steps += max(0, whole.steps - len(stage.history()))
    left = stage.root / ".state" / "tracking"
    end = time.monotonic() + _DELIVERED_SECONDS
    while list(left.glob("*.jsonl")) and time.monotonic() < end:  # of couriers that were killed, or still send
        deliver_left(left, stage.root / "mlruns", "minivlm", wait=True)
    for what, runs in (("pretrain", tracked_runs(stage)), ("reproduction", tracked_runs(stage, "reproduction"))):
        if list(runs) != ["FINISHED"]:
            outcome.faults.append(f"{what} in MLflow: {', '.join(runs)}")
            return
    points = tracked_points(stage)
    outcome.lost_steps += (whole.points - points).total()
    outcome.doubled_metrics += (points - whole.points).total()
    if outcome.lost_steps or outcome.doubled_metrics:
        outcome.faults.append(f"{outcome.lost_steps} steps lost, {outcome.doubled_metrics} metrics doubled")
    if left := list((stage.root / ".state").glob("pretrain/[!.]*")):  # what is being removed may stay
        outcome.faults.append(f"left behind: {left}")


def tracked_runs(stage: Stage, of: str = "pretrain") -> list[str]:
    """The status of each run of a stage or reproduction that MLflow shows."""
    return [status for _, status in _runs(stage, of)]


def tracked_points(stage: Stage) -> Counter[tuple[str, int]]:
    """How often each (metric, step) is there, of the stage's run and of the curves of its reproduction's.

    Of what the machine did, whose samples depend on time, a point counts from its second occurrence on.
    """
    ((training, _),), ((parent, _),) = _runs(stage, "pretrain"), _runs(stage, "reproduction")
    of_machine = "key like 'system/%'"
    asked = (
        f"select key, step from metrics where run_uuid = '{training}' and not {of_machine}",
        f"select 'reproduction ' || key, step from metrics where run_uuid = '{parent}' and step > 0",
    )
    points = Counter(tuple(row) for query in asked for row in stage.store(query))
    machine = Counter(map(tuple, stage.store(f"select key, step from metrics where {of_machine}")))
    return points + (machine - Counter(machine.keys()))


def _runs(stage: Stage, of: str) -> list[tuple[str, str]]:
    return stage.store(
        "select run_uuid, status from runs join tags using (run_uuid) "
        f"where key = 'stage' and value = '{of}' and lifecycle_stage = 'active'"
    )


def main(
    number: Annotated[int, typer.Option("--number", "-n", help="Kills, at least.")] = 50,
    seed: Annotated[int, typer.Option(help="Of the moments and choices.")] = 0,
    log: Annotated[Path, typer.Option(help="Where the log goes.")] = ROOT / "docs/reliability/kills.log",
) -> None:
    """Kill trainings until `number` kills are done; exit code 1 when one of them was not survived."""
    draw, lines, total, began = random.Random(seed), list[str](), Outcome(), time.monotonic()

    def say(line: str) -> None:
        lines.append(line)
        typer.echo(line)
        write_text(log, "\n".join(lines) + "\n")

    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        root = Path(folder)
        inputs = write_toy_inputs(root / "inputs", root)
        whole = run_whole(make_stage(root / "whole", inputs))
        say(f"uninterrupted: {whole.steps} steps; seed {seed}")
        trainings = 0
        while len(total.kills) < number:
            trainings += 1
            stage = make_stage(root / f"{trainings}", inputs)
            moments = [drawn(draw) for _ in range(draw.randint(1, MOST_KILLS))]
            found = killed_and_gone_on(stage, whole, moments, draw.choice(SAVES))
            found.survived = 0 if found.faults else len(found.kills)
            for name in (
                "kills", "phases", "faults", "survived", "resumed", "lost_steps", "doubled_metrics", "unhandled",
            ):  # fmt: skip
                setattr(total, name, getattr(total, name) + getattr(found, name))
            what = "; ".join(found.kills) or "ended before it could be killed"
            well = f"went on from a state {found.resumed} times; same bytes, one run, each step once"
            say(f"{trainings:3d}: {what}: {'; '.join(found.faults) or well}")
    if not total.resumed:
        total.faults.append("no training went on from a state")
    say(
        f"{len(total.kills)} kills of {trainings} trainings, {total.resumed} times gone on from a state, "
        f"{len(total.faults)} faults"
    )
    record(
        "kills",
        {
            "command": f"make kills N={number}",
            "kills": len(total.kills),
            "by_moment": dict(sorted(total.phases.items())),
            "survived": total.survived,
            "resumed": total.resumed,
            "trainings": trainings,
            **total.figures(began),
        },
    )
    raise typer.Exit(bool(total.faults))


if __name__ == "__main__":
    typer.run(main)
