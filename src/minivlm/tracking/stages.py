"""The frame of a stage's run: what is recorded at its start and end, and on the run of its reproduction."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
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
from minivlm.tracking.reproduction import Reproduction, execution_id, execution_key, join
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
    try:
        journal = Journal.create(paths.journal, name, experiment, server_name())
    except OSError as error:  # tracking never costs a run
        print(f"warning: MLflow gets nothing of this run: {paths.journal}: {error.strerror}", file=sys.stderr)
        yield NullRun()
        return
    courier = Courier(journal, paths.tracking, experiment)
    stage = _Stage(name, params, paths, courier, execution_id(key or execution_key()))
    child, status, reason = stage.run, "FINISHED", ""
    try:
        if resumes:
            child.hold(stage.begin)
        else:
            stage.begin()
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
        stage.finish(time.monotonic() - started, status, reason)
        # Who asks a stage to stop does not wait long: `docker stop` kills after 10 s.
        courier.close(is_stopped=status == "KILLED")


class _Stage:
    """What is said of a stage's run at its start and end, and of the reproduction's above it."""

    def __init__(self, name: str, params: Params, paths: Paths, courier: Courier, execution: str) -> None:
        self._name, self._params, self._paths = name, params, paths
        self._courier, self._execution = courier, execution
        self._git = facts.git_tags(paths.root)
        self.run = Run(courier, uuid.uuid4().hex, execution)

    def begin(self, earlier: str = "") -> None:
        """Start both runs; `earlier`: the execution that the stage's run was left in, see `join`."""
        name, params, paths = self._name, self._params, self._paths
        origin = facts.hardware_tags(params.runtime.device) | _origin(name)
        reproduction = self._start_parent(self._git | origin, earlier)
        self.run.start(
            name, reproduction, self._git | origin | {"stage": name, "reproduction": self._reproduction.name}
        )
        self.run.set_tags(facts.version_tags() | facts.input_tags(paths.root, name))
        self.run.log_params({**_general(params), name: params.section(name).model_dump(mode="json")})

    def _start_parent(self, tags: dict[str, str], earlier: str) -> Run:
        """Create or take up the reproduction's run; a new one gets all parameters, and skipped stages' figures."""
        values = _all_parameters(self._params)
        says = hashlib.sha256(repr((values, sorted(self._git.items()))).encode()).hexdigest()
        folder, commit = self._paths.tracking / "reproductions", self._git.get("git.commit")
        try:
            self._reproduction = join(folder, self._execution, commit, says, earlier)
        except OSError as error:
            print(f"warning: {folder}: {error.strerror}; this stage is a reproduction of its own", file=sys.stderr)
            self._reproduction = Reproduction(uuid.uuid4().hex, self._name, True, folder / "none.json")
        parent = Run(self._courier, self._reproduction.run)
        parent.start(self._reproduction.name, None, tags | {"stage": "reproduction"})
        if self._reproduction.is_new:
            parent.log_params(values)
            # DVC skipped these because nothing they depend on has changed: their figures are this one's too.
            if reused := _figures_before(self._name, self._paths):
                parent.log_metrics(reused)
                parent.set_tags({"reused": ", ".join(reused)})
        elif earlier:
            parent.set_tags({"error": ""})  # what ended the earlier execution is over
        return parent

    def finish(self, seconds: float, status: str, reason: str) -> None:
        """Say what the stage took, on both runs, and how it ended; `seconds` of this process."""
        child = self.run
        child.begin()  # of a stage that came to nothing
        parent = child.parent
        if parent is None:  # not even the start could be written down
            return
        seconds += child.earlier_seconds
        spent = {"hours": seconds / 3600}
        price = hardware.price_per_hour(hardware.device_name(self._params.runtime.device), self._params.prices)
        if price is not None:
            spent["money"] = price * seconds / 3600
        # A result is said once: of a run that is gone on with, at its end.
        is_over = status == "FINISHED" or not child.resumes
        if is_over:  # a training has told its own hours and money, without loading and saving
            child.log_metrics({name: value for name, value in spent.items() if name not in child.figures})
        try:
            totals = self._reproduction.add(self._name, spent)
        except OSError as error:  # a full disk: the stage has done its work all the same
            print(f"warning: {self._reproduction.file}: {error.strerror or error}", file=sys.stderr)
            totals = {}
        if is_over and child.memory:
            parent.remember(child.memory.with_name("reproduction.jsonl"))
        parent.log_metrics({**({self._name: child.figures} if is_over else {}), **totals})
        if is_over:
            child.log_metrics({"seconds": seconds})
        if reason:
            child.set_tags({"error": reason})
            parent.set_tags({"error": f"{self._name}: {reason}"})
        child.end(status)
        parent.end(status)


def _origin(stage: str) -> dict[str, str]:
    tags = {"mlflow.source.name": f"pipelines/{stage}.py", "mlflow.source.type": "LOCAL"}
    with contextlib.suppress(OSError, KeyError):  # a container's user may have no name
        tags["mlflow.user"] = getpass.getuser()
    experiment = os.environ.get("DVC_EXP_NAME")
    return tags | ({"dvc.experiment": experiment} if experiment else {})


def _general(params: Params) -> dict[str, Any]:
    """The parameters of no stage that change what comes out."""
    return {"seed": params.seed, "threads": params.threads}


def _all_parameters(params: Params) -> dict[str, Any]:
    """Those of all stages, without the sources of rows that are not used."""
    sections = {stage: params.section(stage).model_dump(mode="json") for stage in STAGES}
    for source in {"scenes", "local", "hub"} - {params.download.source}:
        sections["download"].pop(source)
    return {**_general(params), **sections}


def _figures_before(stage: str, paths: Paths) -> dict[str, dict[str, float]]:
    """The results in reports/ of the stages before `stage`."""
    found = {}
    for earlier in STAGES[: STAGES.index(stage)]:
        file = paths.reports(earlier) / "metrics.json"
        if file.exists():
            found[earlier] = {k: v for k, v in facts.flatten(read_json(file)).items() if _is_number(v)}
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if not isinstance(error, UserError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text[:500]
