"""Take the tracking server away while stages run, and see that MLflow has everything in the end, once.

    python -m tests.reliability.tracking

Real `mlflow server` processes, over SQLite and, where it is installed, over PostgreSQL, are down, frozen, answer
after seconds, or are killed in the middle; stages are killed with them, and go on. What was told is compared with
the rows of the database's own tables. The counts go to docs/reliability.json.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from minivlm.files import read_json
from tests.integration.mlflow_server import MlflowServer, database, postgres_missing
from tests.integration.tracked_stage import CURVES, RESULTS, TrackedStage, read_until
from tests.reliability.record import record, unhandled

IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}  # so that a courier gives up while one looks on
LONG = 0.01  # seconds between two steps, where something is to happen between them
MOST_SECONDS = 300.0  # that anything may take before it counts as stuck


@dataclass
class Outcome:
    """What was told and what became of it; `faults` is empty when nothing was lost and nothing doubled."""

    told: int = 0
    lost: int = 0
    doubled: int = 0
    unhandled: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0  # of the steps
    in_tracker: float = 0.0  # of these, in calls of the tracker
    longest: float = 0.0  # of these calls
    end_seconds: float = 0.0  # from the last step to the end of the process


@dataclass
class Trial:
    """A server and the stage that tells it `steps` steps."""

    server: MlflowServer
    stage: TrackedStage
    steps: int
    outcome: Outcome = field(default_factory=Outcome)
    first: int = 0  # steps that the first process of a killed stage had told
    ends: str = "FINISHED"

    def finish(self, process: Any) -> None:
        """Wait for the stage, note what telling cost it."""
        _, errors = process.communicate(timeout=MOST_SECONDS)
        ended = time.time()
        self.outcome.unhandled += unhandled(errors)
        if process.returncode:
            self.outcome.faults.append(f"exit code {process.returncode}: {errors.strip().splitlines()[-1:]}")
            return
        spent = read_json(self.stage.root / "spent.json")
        for name in ("seconds", "in_tracker", "longest"):
            setattr(self.outcome, name, spent[name])
        self.outcome.end_seconds = ended - spent["over"]

    def sync(self) -> str:
        """`minivlm sync` until no journal is left; what it said the last time."""
        until = time.monotonic() + MOST_SECONDS
        while True:
            process = self.stage.sync()
            said, errors = process.communicate(timeout=MOST_SECONDS)
            self.outcome.unhandled += unhandled(errors)
            if not self.stage.journals():
                return said
            if time.monotonic() > until:
                self.outcome.faults.append(f"journals are left: {said}")
                return said
            time.sleep(0.5)

    def compare(self) -> Outcome:
        """The database's own rows against what was told."""
        outcome, steps = self.outcome, self.steps if self.ends == "FINISHED" else self.first
        runs = self.server.rows(
            "select t.value, r.status, r.run_uuid from runs r join tags t on t.run_uuid = r.run_uuid "
            "where t.key = 'stage' and r.lifecycle_stage = 'active'"
        )
        children = [(status, run) for stage, status, run in runs if stage == "sft"]
        if [status for status, _ in children] != [self.ends]:
            outcome.faults.append(f"runs of the stage: {', '.join(status for status, _ in children) or 'none'}")
            return outcome
        if any(status == "RUNNING" for _, status, _ in runs):
            outcome.faults.append("a reproduction is still RUNNING")
        rows = self.server.rows(f"select key, step from metrics where run_uuid = '{children[0][1]}'")
        points = Counter((key, step) for key, step in rows if key in CURVES)
        told = {(curve, step) for curve in CURVES for step in range(1, steps + 1)}
        results = Counter(key for key, _ in rows)
        expected = RESULTS if self.ends == "FINISHED" else ()
        outcome.told = len(told) + len(expected)
        outcome.lost = len(told - points.keys()) + sum(not results[name] for name in expected)
        outcome.doubled = sum(count - 1 for count in points.values())
        outcome.doubled += sum(max(0, results[name] - 1) for name in RESULTS)
        if outcome.lost or outcome.doubled:
            outcome.faults.append(f"{outcome.lost} metrics lost, {outcome.doubled} doubled")
        return outcome


def answering(trial: Trial) -> None:
    """The server is there all the time."""
    trial.finish(trial.stage.start(trial.steps))
    trial.sync()


def down(trial: Trial) -> None:
    """Nobody listens until the stage is over; then two commands deliver at once."""
    trial.server.kill()
    trial.finish(trial.stage.start(trial.steps))
    trial.server.start()
    both = [trial.stage.sync(), trial.stage.sync()]
    for process in both:
        _, errors = process.communicate(timeout=MOST_SECONDS)
        trial.outcome.unhandled += unhandled(errors)
    trial.sync()


def never(trial: Trial) -> None:
    """The server accepts connections and answers nothing until the stage is over."""
    trial.server.freeze()
    trial.finish(trial.stage.start(trial.steps))
    trial.server.thaw()
    trial.sync()


def slow(trial: Trial) -> None:
    """The server answers in a short moment every few seconds, to a courier that waits for it."""
    del trial.stage.environment["MLFLOW_HTTP_REQUEST_TIMEOUT"]
    answered_too_late(trial)


def answered_too_late(trial: Trial) -> None:
    """The server answers in a short moment every few seconds, by then often to nobody."""
    over = threading.Event()

    def freeze_and_thaw() -> None:
        while not over.is_set():
            trial.server.freeze()
            over.wait(4.0)
            trial.server.thaw()
            over.wait(0.3)

    thread = threading.Thread(target=freeze_and_thaw)
    thread.start()
    try:
        trial.finish(trial.stage.start(trial.steps))
    finally:
        over.set()
        thread.join()
    trial.sync()


def killed_in_the_middle(trial: Trial) -> None:
    """The server is killed while it takes metrics, and is there again before the stage ends."""
    process = trial.stage.start(trial.steps, pause=LONG)
    read_until_delivering(trial, process)
    trial.server.kill()
    trial.server.start()
    trial.finish(process)
    trial.sync()


def everything_killed(trial: Trial) -> None:
    """Stage, courier and server are killed at once, in the middle, as when the power fails."""
    process = trial.stage.start(trial.steps, pause=LONG)
    trial.first = read_until_delivering(trial, process)
    trial.server.kill()
    kill(process)
    torn(trial)
    trial.ends = "KILLED"
    trial.server.start()
    trial.sync()


def gone_on_late(trial: Trial) -> None:
    """A killed stage goes on and ends; what its first process left is delivered after that."""
    process = trial.stage.start(trial.steps, pause=LONG)
    read_until_delivering(trial, process)
    kill(process)
    torn(trial)
    (journal,) = trial.stage.journals()
    hidden = journal.with_suffix(".hidden")
    journal.rename(hidden)
    trial.finish(trial.stage.start(trial.steps))
    hidden.rename(journal)
    trial.sync()


def gone_on(trial: Trial) -> None:
    """A stage is killed while the server is away, and the stage that goes on delivers what was left."""
    trial.server.kill()
    process = trial.stage.start(trial.steps)
    read_until(process, trial.steps // 2)
    kill(process)
    torn(trial)
    trial.server.start()
    trial.finish(trial.stage.start(trial.steps))
    trial.sync()


def read_until_delivering(trial: Trial, process: Any) -> int:
    """Wait until metrics are in the database and others are on their way; the last step that was told."""
    step = 0
    while not trial.server.rows("select 1 from metrics where key = 'loss' limit 1"):
        step += 10
        read_until(process, step)
    return step


def kill(process: Any) -> None:
    """The stage and its courier, at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def torn(trial: Trial) -> None:
    """A line that the power cut off, after the last one of the journal."""
    (journal,) = trial.stage.journals()
    with journal.open("ab") as stream:
        stream.write(b'{"seq": 999999, "op": "metrics", "run": "')


SCENARIOS: tuple[Callable[[Trial], None], ...] = (
    answering, down, never, slow, answered_too_late, killed_in_the_middle, everything_killed,
    gone_on, gone_on_late,
)  # fmt: skip


def attempt(scenario: Callable[[Trial], None], kind: str, folder: Path, steps: int) -> Outcome:
    """One scenario on a fresh database of `kind`."""
    with database(kind, folder) as store, MlflowServer(folder, store) as server:
        trial = Trial(server.start(), TrackedStage(folder / "checkout", server.uri, **IMPATIENT), steps)
        scenario(trial)
        return trial.compare()


def main(
    steps: Annotated[int, typer.Option(help="Of each stage; four metrics each.")] = 2500,
    seed: Annotated[int, typer.Option(help="Of the order of the scenarios.")] = 0,
) -> None:
    """Run every scenario on every database; exit code 1 when a metric was lost or doubled."""
    missing, began = postgres_missing(), time.monotonic()
    kinds = ["sqlite"] if missing else ["sqlite", "postgresql"]
    found: dict[str, dict[str, Outcome]] = {kind: {} for kind in kinds}
    order = [(kind, scenario) for kind in kinds for scenario in SCENARIOS]
    random.Random(seed).shuffle(order)
    for kind, scenario in order:
        with tempfile.TemporaryDirectory(prefix="tracking-") as folder:
            outcome = found[kind][scenario.__name__] = attempt(scenario, kind, Path(folder), steps)
        said = "; ".join(outcome.faults) or "nothing lost, nothing doubled"
        typer.echo(f"{kind} {scenario.__name__}: {outcome.told:,} metrics: {said}")
    everything = [outcome for outcomes in found.values() for outcome in outcomes.values()]
    record(
        "tracking",
        {
            "command": "python -m tests.reliability.tracking",
            "databases": kinds if not missing else [*kinds, f"postgresql skipped: {missing}"],
            "scenarios": len(everything),
            "metrics_told": sum(outcome.told for outcome in everything),
            "metrics_lost": sum(outcome.lost for outcome in everything),
            "metrics_doubled": sum(outcome.doubled for outcome in everything),
            "faults": sum(len(outcome.faults) for outcome in everything),
            "unhandled_exceptions": sum(outcome.unhandled for outcome in everything),
            "by_scenario": {
                kind: {name: figures(outcome, steps) for name, outcome in sorted(outcomes.items())}
                for kind, outcomes in found.items()
            },
            "minutes": round((time.monotonic() - began) / 60, 1),
        },
    )
    raise typer.Exit(any(outcome.faults or outcome.unhandled for outcome in everything))


def figures(outcome: Outcome, steps: int) -> dict[str, float]:
    """What one scenario has shown; of the time, what telling a step cost and what the stage waited at its end."""
    counts: dict[str, float] = {"told": outcome.told, "lost": outcome.lost, "doubled": outcome.doubled}
    if outcome.seconds:
        counts["milliseconds_per_step"] = round(1000 * outcome.in_tracker / steps, 3)
        counts["longest_call_milliseconds"] = round(1000 * outcome.longest, 1)
        counts["seconds_at_the_end"] = round(outcome.end_seconds, 1)
    return counts


if __name__ == "__main__":
    typer.run(main)
