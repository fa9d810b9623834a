"""Temporary stores and a courier without its process: what the tests of the tracker share."""

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from minivlm.config import load_params
from minivlm.tracking import courier, stage_run
from minivlm.tracking.backlog import deliver_left
from minivlm.tracking.journal import Journal
from minivlm.tracking.run import Run
from minivlm.tracking.store import connect

ROOT = Path(__file__).resolve().parents[3]
PARAMS = load_params(ROOT / "params.yaml")


class ThreadInsteadOfProcess:
    """Delivers as the courier's process does, without the seconds that a process takes to import MLflow."""

    pid = None

    def __init__(self, journal, home, experiment):
        pipe, end = os.pipe()
        self.stdin = os.fdopen(end, "wb", buffering=0)
        self._thread = threading.Thread(target=self._deliver, args=(journal, home, experiment, pipe))
        self._thread.start()

    def _deliver(self, journal, home, experiment, pipe):
        courier.deliver(journal, home, experiment, pipe)
        os.close(pipe)

    def wait(self, seconds):
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise subprocess.TimeoutExpired("courier", seconds)
        return 0

    def send_signal(self, number):
        """A thread has no output of its own to let go of."""


def stored(paths):
    """All runs of the store, oldest first."""
    client, experiment = connect(paths.tracking, PARAMS.tracking.experiment)
    return client, client.search_runs([experiment], order_by=["attributes.start_time"])


def wait_for(condition, seconds=60.0):
    """Until the condition holds; an error after too long."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def by_stage(paths):
    return {run.data.tags["stage"]: run for run in stored(paths)[1]}


class LeftStage:
    """A stage that tells its journal and has no courier; `die` leaves the journal, as a kill does.

    It begins as `run`, or as the run that it goes on with; with neither it is killed before it knows.
    """

    def __init__(self, paths, run="r" * 32, parent="p" * 32, server="", stage="sft", tags=None, goes_on=""):
        self.journal = Journal.create(paths.journal, stage, PARAMS.tracking.experiment, server)
        teller = courier.Courier(self.journal, paths.tracking, "")
        self.parent = Run(teller, parent)
        self.run = Run(teller, run)
        self.parent.start("reproduction", None, {"stage": "reproduction"})
        self.run.hold(lambda earlier: self.run.start(stage, self.parent, {"stage": stage} | (tags or {})))
        if goes_on:
            self.run.go_on(goes_on)
        elif run:
            self.run.begin()

    def tell(self, first, last):
        """Metrics of the steps from `first` to `last`, with times that another process would give them too."""
        for step in range(first, last + 1):
            self.run.log_metrics({"loss": 1.0 / step}, step=step, time_ms=1_767_225_600_000 + step)
        return self

    def end(self, status="FINISHED"):
        self.run.end(status)
        self.parent.end(status)
        self.run.tell_models()
        return self

    def die(self):
        self.journal.close()
        return self.journal.path


def started(paths, stage, key, params=PARAMS, does=lambda run: None):
    """A stage that ran in the execution `key`, and did that."""
    with stage_run(stage, params, paths, key=key) as run:
        does(run)


def sync(paths, **options):
    return deliver_left(paths.journal, paths.tracking, PARAMS.tracking.experiment, **options)


class CuttingClient:
    """MLflow's client, whose call number `number` is carried out and never answered; nor is any after it."""

    def __init__(self, client, number):
        self._client, self._left = client, number

    def __getattr__(self, name):
        def call(*arguments, **options):
            if self._left < 0:
                raise ConnectionError("away")
            self._left -= 1
            answer = getattr(self._client, name)(*arguments, **options)
            if self._left < 0:
                raise ConnectionError("no answer")
            return answer

        return call


def calls_that_may_be_cut(number, quick=4):
    """Numbers of calls, of which every `quick`th is tested by default."""
    return [pytest.param(n, marks=[] if n % quick == 1 else pytest.mark.slow) for n in range(number)]


def cutting(cut, *place):
    """The cutting client, once; what connects again finds nobody."""
    if "left" not in cut:
        raise ConnectionError("away")
    client, experiment = connect(*place)
    return CuttingClient(client, cut.pop("left")), experiment
