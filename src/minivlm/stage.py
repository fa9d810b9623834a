"""The frame of a stage command: parameters, dry run, MLflow run, errors in one line.

A stage is a function of `StageRun`; `stage_app` makes the Typer command around it. The function reads its section,
calls the library with plain values and writes its outputs; everything that all seven share is here.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minivlm import hardware
from minivlm.config import Params, load_params
from minivlm.errors import UserError
from minivlm.paths import Paths

if TYPE_CHECKING:
    from minivlm.tracking import Run

EXIT_USER_ERROR = 2


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


def stage_app(name: str, summary: str, run: Callable[[StageRun], None]) -> typer.Typer:
    """The Typer command of a stage: `python -m pipelines.<name> [--dry-run]`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @app.command(help=summary)
    def command(
        dry_run: Annotated[
            bool, typer.Option(help="Print the resolved configuration and the plan; stop.")
        ] = False,
    ) -> None:
        paths = Paths()
        with one_line_errors():
            params = load_params(paths.params)
            if dry_run:
                section = params.section(name).model_dump(mode="json")
                report = {name: section, "plan": _plan(name, params, paths)}
                typer.echo(json.dumps(report, ensure_ascii=False, indent=2))
                return
            from minivlm.tracking import stage_run

            with stage_run(name, params, paths) as tracker:
                run(StageRun(name=name, params=params, paths=paths, tracker=tracker))

    return app


def _plan(name: str, params: Params, paths: Paths) -> dict[str, Any]:
    """What the stage would do: rows, steps, tokens, memory, disk (minivlm.planning)."""
    # By name: a plan changes no output, so what it imports is no dependency of the stage in dvc.yaml.
    planning = importlib.import_module("minivlm.planning")
    plan: dict[str, Any] = planning.plan(name, params, paths)
    return plan


class one_line_errors:  # noqa: N801  (a context manager, used like a function)
    """Turn a UserError, or the system's about a file, into one line and exit code 2; Ctrl-C into 130."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, UserError):
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(EXIT_USER_ERROR) from None
        if isinstance(error, OSError) and error.filename is not None:
            # A folder that is a file, no right to write, a full disk: the system says what, the path says where.
            print(f"error: {os.fsdecode(error.filename)}: {error.strerror}", file=sys.stderr)
            raise typer.Exit(EXIT_USER_ERROR) from None
        if isinstance(error, KeyboardInterrupt):
            print("interrupted", file=sys.stderr)
            raise typer.Exit(130) from None
