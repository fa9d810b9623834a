"""The frame of a stage's run: what is recorded at its start and end, and on the run of its reproduction."""

from __future__ import annotations

import contextlib
import getpass
import math
import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minivlm import hardware
from minivlm.config import Params
from minivlm.errors import StoppedError, UserError
from minivlm.files import read_json
from minivlm.paths import STAGES, Paths
from minivlm.tracking import facts
from minivlm.tracking.courier import Courier
from minivlm.tracking.journal import Journal
from minivlm.tracking.reproduction import Reproduction, execution_key, join
from minivlm.tracking.run import NullRun, Run
from minivlm.tracking.store import server_name


@contextmanager
def stage_run(
    name: str, params: Params, paths: Paths, key: str | None = None, resumes: bool = False
) -> Iterator[Run]:
    """The MLflow run of stage `name`, below the run of the reproduction that it belongs to.

    Logs parameters, code, inputs and machine at the start; time, money and outcome at the end: FAILED with the
    reason in one line for an exception, KILLED for Ctrl-C and for a training that was asked to stop. `key` names
    the execution of the pipeline; it is found from the process tree when it is None. A stage that `resumes` begins
    its run itself, as a new one or as one that it goes on with. With `tracking.enabled: false`, a NullRun.
    """
    if not params.tracking.enabled:
        yield NullRun()
        return
    started = time.monotonic()
    experiment = params.tracking.experiment
    journal = Journal.create(paths.journal, name, experiment, server_name())
    courier = Courier(journal, paths.tracking, experiment)
    git = facts.git_tags(paths.root)
    reproduction = join(paths.tracking / "reproductions", key or execution_key(), git.get("git.commit"))
    parent = Run(courier, reproduction.run)
    child = Run(courier, uuid.uuid4().hex, parent)
    status, reason = "FINISHED", ""
    try:
        tags = git | facts.hardware_tags(params.runtime.device) | _origin(name)
        _start_parent(parent, reproduction, params, paths, name, tags)
        child_tags = tags | {"stage": name, "reproduction": reproduction.name}
        child.start(name, reproduction.run, child_tags, hold=resumes)
        child.set_tags(facts.version_tags() | facts.input_tags(paths.root, name))
        child.log_params({**_general(params), name: params.section(name).model_dump(mode="json")})
        yield child
    except StoppedError:
        status = "KILLED"  # and no reason: the run is gone on with
        raise
    except KeyboardInterrupt:
        status, reason = "KILLED", "interrupted"
        raise
    except BaseException as error:
        if not (isinstance(error, SystemExit) and not error.code):
            status, reason = "FAILED", _reason(error)
        raise
    finally:
        seconds = time.monotonic() - started
        _finish(name, params, parent, child, reproduction, seconds, status, reason)
        try:
            for done in child.when_over if status == "FINISHED" else ():
                done()
        finally:
            courier.close()


def _origin(stage: str) -> dict[str, str]:
    tags = {"mlflow.source.name": f"pipelines/{stage}.py", "mlflow.source.type": "LOCAL"}
    with contextlib.suppress(OSError, KeyError):  # a container's user may have no name
        tags["mlflow.user"] = getpass.getuser()
    experiment = os.environ.get("DVC_EXP_NAME")
    return tags | ({"dvc.experiment": experiment} if experiment else {})


def _general(params: Params) -> dict[str, Any]:
    """The parameters of no stage that change what comes out."""
    return {"seed": params.seed, "threads": params.threads}


def _start_parent(
    parent: Run, reproduction: Reproduction, params: Params, paths: Paths, stage: str, tags: dict[str, str]
) -> None:
    """Create or take up the reproduction's run; a new one gets all parameters, and skipped stages' figures."""
    parent.start(reproduction.name, None, tags | {"stage": "reproduction"})
    if not reproduction.is_new:
        return
    sections = {s: params.section(s).model_dump(mode="json") for s in STAGES}
    for source in {"scenes", "local", "hub"} - {params.download.source}:
        sections["download"].pop(source)
    parent.log_params({**_general(params), **sections})
    reused = {}
    for earlier in STAGES[: STAGES.index(stage)]:
        file = paths.reports(earlier) / "metrics.json"
        if file.exists():
            reused[earlier] = {k: v for k, v in facts.flatten(read_json(file)).items() if _is_number(v)}
    if reused:
        # DVC skipped these because nothing they depend on has changed: their figures are this reproduction's too.
        parent.log_metrics(reused)
        parent.set_tags({"reused": ", ".join(reused)})


def _finish(
    stage: str, params: Params, parent: Run, child: Run, reproduction: Reproduction,
    seconds: float, status: str, reason: str,
) -> None:  # fmt: skip
    seconds += child.earlier_seconds
    spent = {"hours": seconds / 3600}
    price = hardware.price_per_hour(hardware.device_name(params.runtime.device), params.prices)
    if price is not None:
        spent["money"] = price * seconds / 3600
    # A result is said once: of a run that is gone on with, at its end.
    is_over = status == "FINISHED" or not child.resumes
    if is_over:  # a training has told its own hours and money, without loading and saving
        child.log_metrics({name: value for name, value in spent.items() if name not in child.figures})
    try:
        totals = reproduction.add(stage, spent)
    except OSError as error:  # a full disk: the stage has done its work all the same
        print(f"warning: {reproduction.file}: {error.strerror or error}", file=sys.stderr)
        totals = {}
    parent.log_metrics({stage: child.figures, **totals})
    if is_over:
        child.log_metrics({"seconds": seconds})
    if reason:
        child.set_tags({"error": reason})
        parent.set_tags({"error": f"{stage}: {reason}"})
    child.end(status)
    parent.end(status)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if not isinstance(error, UserError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text[:500]
