"""The frame of a stage command: parameters, dry run, folders, MLflow run.

A stage is a function of `StageRun`; `stage_app` makes the Typer command around it. The function reads its section,
calls the library with plain values and writes its outputs; everything that all seven share is here.
"""

import importlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minivlm import hardware, launcher
from minivlm.command import App, Verbose
from minivlm.config import Params, load_params
from minivlm.exits import one_line_errors
from minivlm.files import remove_unfinished
from minivlm.locks import alone
from minivlm.paths import Paths
from minivlm.threads import share_cores

if TYPE_CHECKING:
    from minivlm.tracking import Run


@dataclass(frozen=True)
class StageRun:
    """What a stage function gets: its name, all parameters, the paths, and the MLflow run of this execution."""

    name: str
    params: Params
    paths: Paths
    tracker: "Run"

    @property
    def artifacts(self) -> Path:
        """The stage's own output folder (made anew by the stage)."""
        return self.paths.artifacts(self.name)

    @property
    def reports(self) -> Path:
        """The stage's own folder of metrics and plots."""
        return self.paths.reports(self.name)

    @property
    def workers(self) -> int:
        """Processes for drawing, decoding and checking."""
        return self.params.runtime.workers or hardware.cores()


def stage_app(
    name: str,
    summary: str,
    run: Callable[[StageRun], Callable[[], None] | None],
    *,
    launches: bool = False,
    resumes: bool = False,
) -> typer.Typer:
    """The Typer command of a stage: `python -m pipelines.<name> [--dry-run]`.

    What `run` returns is called when everything is written and the MLflow run is over. `launches`: the stage can
    run as several processes, and does where `runtime.launcher` says so. `resumes`: it goes on with what a process
    before it has left, and begins its MLflow run itself, as a new one or as that one's.
    """
    app = App(add_completion=False)

    @app.command(help=summary)
    def command(
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Print the resolved configuration and the plan; stop.")
        ] = False,
        verbose: Verbose = False,
    ) -> None:
        paths = Paths()
        launcher.follow_starter()
        with one_line_errors(keep=paths.state / "tracebacks" / f"{name}.txt"):
            params = load_params(paths.params)
            if dry_run:
                section = params.section(name).model_dump(mode="json")
                report = {name: section, "plan": _plan(name, params, paths)}
                typer.echo(json.dumps(report, ensure_ascii=False, indent=2))
                return
            if resumes:  # it trains, for hours maybe, beside whatever else the machine is used for
                share_cores()
            if launches and params.runtime.launcher and not launcher.is_launched():
                raise typer.Exit(launcher.launch(params.runtime.launcher, f"pipelines.{name}", params.threads))
            if not launcher.rank():
                typer.echo(f"{name}: {summary}")
            with _outputs(name, paths):
                with _tracker(name, params, paths, resumes) as tracker:
                    finish = run(StageRun(name=name, params=params, paths=paths, tracker=tracker))
                if finish:
                    finish()

    return app


@contextmanager
def _outputs(name: str, paths: Paths) -> Iterator[None]:
    """Hold the stage's folders, in a checkout, against another process; of several ranks the first does."""
    if launcher.rank():
        yield
        return
    with alone(paths.state / "locks" / name, f"{name} is being run in this checkout"):
        artifacts, reports = paths.artifacts(name), paths.reports(name)
        for place, names in ((artifacts.parent, f".{name}.*"), (artifacts, ".*"), (reports, ".*")):
            remove_unfinished(place.glob(names))
        yield


@contextmanager
def _tracker(name: str, params: Params, paths: Paths, resumes: bool) -> Iterator["Run"]:
    """The stage's MLflow run. Of several processes rank 0 has it, and alone writes to standard output."""
    from minivlm.tracking import NullRun, stage_run

    if launcher.rank():
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            yield NullRun()
    else:
        with stage_run(name, params, paths, resumes=resumes) as tracker:
            yield tracker


def _plan(name: str, params: Params, paths: Paths) -> dict[str, Any]:
    """What the stage would do: rows, steps, tokens, memory, disk (minivlm.planning)."""
    # By name: a plan changes no output, so what it imports is no dependency of the stage in dvc.yaml.
    planning = importlib.import_module("minivlm.planning")
    plan: dict[str, Any] = planning.plan(name, params, paths)
    return plan
