"""Temporary stores and a courier without its process: what the tests of the tracker share."""

import os
import subprocess
import threading
import time
from pathlib import Path

from minivlm.config import load_params
from minivlm.tracking import courier
from minivlm.tracking.journal import Journal
from minivlm.tracking.run import Run
from minivlm.tracking.store import connect

ROOT = Path(__file__).resolve().parents[3]
PARAMS = load_params(ROOT / "params.yaml")


class ThreadInsteadOfProcess:
    """Delivers as the courier's process does, without the seconds that a process takes to import MLflow."""

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
        return self

    def die(self):
        self.journal.close()
        return self.journal.path
