"""The frame of a stage's run: what is recorded at its start and end, and on the run of its reproduction."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
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
from minivlm.paths import STAGES, Paths
from minivlm.tracking import facts, reused
from minivlm.tracking.changes import note, since_last
from minivlm.tracking.courier import Courier
from minivlm.tracking.datasets import datasets
from minivlm.tracking.journal import Journal
from minivlm.tracking.lineage import NOTE_TAG, OUTPUTS_TAG
from minivlm.tracking.notes import reproduction_note, stage_note
from minivlm.tracking.null_run import NullRun
from minivlm.tracking.reproduction import Reproduction, execution_id, execution_key, join
from minivlm.tracking.run import Run
from minivlm.tracking.store import server_name
from minivlm.tracking.system import SystemSampler


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
        self._sampler: SystemSampler | None = None
        self.run = Run(courier, uuid.uuid4().hex, execution)

    def begin(self, earlier: str = "") -> None:
        """Start both runs; `earlier`: the execution that the stage's run was left in, see `join`."""
        name, params, paths = self._name, self._params, self._paths
        origin = facts.hardware_tags(params.runtime.device) | _origin(name)
        reproduction = self._start_parent(self._git | origin, earlier)
        about = {"stage": name, "reproduction": self._reproduction.name, NOTE_TAG: stage_note(name)}
        self.run.start(name, reproduction, self._git | origin | about)
        self.run.set_tags(facts.version_tags() | facts.input_tags(paths.root, name))
        self.run.log_params({**_general(params), name: params.section(name).model_dump(mode="json")})
        used = datasets(paths, name)
        self.run.log_inputs(used)
        reproduction.log_inputs(used)
        self._sampler = SystemSampler(self.run.log_metrics, self.run.begun, self._courier.pid)

    def _start_parent(self, tags: dict[str, str], earlier: str) -> Run:
        """Create or take up the reproduction's run; a new one gets all parameters and what skipped stages left."""
        values = _all_parameters(self._params)
        self._made_from = facts.made_from(self._paths.root, values)
        says = hashlib.sha256(repr((values, sorted(self._git.items()))).encode()).hexdigest()
        folder, commit = self._paths.tracking / "reproductions", self._git.get("git.commit")
        try:
            self._reproduction = join(folder, self._execution, commit, says, earlier)
        except OSError as error:
            print(f"warning: {folder}: {error.strerror}; this stage is a reproduction of its own", file=sys.stderr)
            self._reproduction = Reproduction(uuid.uuid4().hex, self._name, True, folder / "none.json")
        parent, said = Run(self._courier, self._reproduction.run), ""
        about = {"stage": "reproduction"}
        if self._reproduction.is_new:
            changed, previous = since_last(folder, self._made_from)
            said = reproduction_note(changed, previous)
            about |= {"changed": changed, NOTE_TAG: said, "mlflow.runColor": self._reproduction.colour}
            about |= {"changed.since": previous} if previous else {}
        parent.start(self._reproduction.name, None, tags | about)
        if self._reproduction.is_new:
            parent.log_params(values)
        elif earlier:
            parent.set_tags({"error": ""})  # what ended the earlier execution is over
        self._take_over(parent, said)
        return parent

    def _take_over(self, parent: Run, said: str) -> None:
        """Show what the stages before this one left that DVC skipped: it is this reproduction's too."""
        paths, reproduction = self._paths, self._reproduction
        if not (skipped := reproduction.skipped(STAGES[: STAGES.index(self._name)])):
            return
        for step, points in reused.curves(skipped, paths):
            parent.log_metrics(points, step)
        figures, outputs = reused.figures(skipped, paths), reused.outputs(skipped, paths)
        parent.log_metrics(figures)
        outputs, said = reproduction.take_over(outputs, said)
        if figures or outputs:
            parent.set_tags({"reused": ", ".join(each for each in STAGES if each in figures or each in outputs)})
        if outputs:
            parent.log_reused(said, outputs)
            parent.log_inputs(datasets(paths, "reproduction"))

    def finish(self, seconds: float, status: str, reason: str) -> None:
        """Say what the stage took, on both runs, and how it ended; `seconds` of this process."""
        child = self.run
        child.begin()  # of a stage that came to nothing
        if self._sampler:
            self._sampler.stop()
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
            if status == "FINISHED" and self._name == STAGES[-1]:
                note(self._reproduction.file.parent, self._reproduction.name, self._made_from)
        except OSError as error:  # a full disk: the stage has done its work all the same
            print(f"warning: {self._reproduction.file}: {error.strerror or error}", file=sys.stderr)
            totals = {}
        if is_over and child.memory:
            parent.remember(child.memory.with_name("reproduction.jsonl"))
        # The totals first: the page's comparison begins with the metric that was told first. With few digits, or
        # its columns cut them off.
        parent.log_metrics({name: reused.as_reported(total) for name, total in totals.items()})
        if is_over:
            child.log_metrics({"seconds": seconds})
        if status == "FINISHED":
            # As of a stage that was skipped, so that two reproductions have the same figures to be compared by.
            parent.log_metrics(reused.figures([self._name], self._paths))
            if digest := reused.output(self._name, self._paths):
                child.set_tags({OUTPUTS_TAG: digest})
        if reason:
            child.set_tags({"error": reason})
            parent.set_tags({"error": f"{self._name}: {reason}"})
        child.end(status)
        parent.end(status)
        if status == "FINISHED":
            child.tell_models()


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


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if not isinstance(error, UserError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text[:500]
