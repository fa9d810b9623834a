"""From the journal to MLflow, in order; a server that does not answer loses nothing.

Operations wait in a queue until MLflow has taken them. When it fails, one line says so, and the next try comes
after a pause that doubles; the journal has everything. What MLflow refuses for good (say, a parameter with a
second value) is reported and noted, so that it does not hold up what follows.
"""

import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from minivlm.tracking.journal import Journal
from minivlm.tracking.store import connect

RUN_TAG = "minivlm.run"
BATCH = 1000  # metrics of one log_batch, the server's limit; a batch costs 0.05 s, a single log_metric 0.003 s
_SMALL_BATCH = 100  # parameters or tags of one log_batch, the server's limit
_FIRST_PAUSE, _LONGEST_PAUSE = 15.0, 600.0  # seconds
_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "MAX_LENGTH_EXCEEDED")

Operation = dict[str, Any]


class Delivery:
    """Sends operations to MLflow and notes in the journal what became of them."""

    def __init__(self, journal: Journal, home: Path, experiment: str) -> None:
        self.journal = journal
        self.run_ids: dict[str, str] = {}  # this project's run id → MLflow's
        self._home, self._experiment = home, experiment
        self._client: Any = None
        self._experiment_id = ""
        self._pending: deque[tuple[int, Operation]] = deque()
        self._retry_at, self._pause = 0.0, _FIRST_PAUSE
        self._warned = False

    def take(self, operation: Operation) -> None:
        """Queue an operation of the journal; `flush` sends it."""
        self._pending.append((operation["seq"], operation))

    def flush(self, now: bool = False) -> bool:
        """Send what waits; True when nothing waits any more. After a failure it waits, unless `now`."""
        if self._pending and (now or time.monotonic() >= self._retry_at):
            try:
                self._send_pending()
            except Exception as error:  # any failure of tracking must leave the training alone
                self._failed(error)
        return not self._pending

    def close(self) -> bool:
        """A last try; True when MLflow has everything."""
        done = self.flush(now=True)
        if not done:
            print(f"warning: MLflow lacks part of this run; it is kept in {self.journal.path}", file=sys.stderr)
        return done

    @property
    def retry_seconds(self) -> float | None:
        """Seconds until the next try is due; None when nothing waits."""
        return max(0.0, self._retry_at - time.monotonic()) if self._pending else None

    def _send_pending(self) -> None:
        if self._client is None:
            self._client, self._experiment_id = connect(self._home, self._experiment)
        while self._pending:
            group = self._next_group()
            try:
                self._send([operation for _, operation in group])
            except Exception as error:
                if getattr(error, "error_code", "") not in _REFUSALS:
                    raise
                reason = _one_line(error)
                print(f"warning: MLflow refuses {group[0][1]['op']}: {reason}", file=sys.stderr)
                for seq, _ in group:
                    self.journal.rejected(seq, reason)
            for _ in group:
                self._pending.popleft()
            self.journal.delivered(group[-1][0])
        self._pause = _FIRST_PAUSE

    def _next_group(self) -> list[tuple[int, Operation]]:
        """The first operation or, of metrics, as many of the same run as one batch takes."""
        first = self._pending[0]
        if first[1]["op"] != "metrics":
            return [first]
        group: list[tuple[int, Operation]] = []
        size = 0
        for seq, operation in self._pending:
            size += len(operation.get("metrics", ()))
            if operation["op"] != "metrics" or operation["run"] != first[1]["run"] or (group and size > BATCH):
                break
            group.append((seq, operation))
        return group

    def _send(self, group: list[Operation]) -> None:
        operation = group[0]
        if operation["op"] == "run":
            self._start(operation)
            return
        run_id = self.run_ids[operation["run"]]
        match operation["op"]:
            case "metrics":
                self._send_metrics(run_id, [m for o in group for m in o["metrics"]])
            case "params":
                self._send_pairs(run_id, "params", operation["params"])
            case "tags":
                self._send_pairs(run_id, "tags", operation["tags"])
            case "artifact":
                self._client.log_artifact(run_id, operation["file"], operation["folder"] or None)
            case "image":
                self._send_image(run_id, operation)
            case "table":
                self._send_table(run_id, operation)
            case "end":
                self._client.set_terminated(run_id, operation["status"], operation["end"])

    def _start(self, operation: Operation) -> None:
        """Create the run, or take up the one that an earlier stage or an earlier try has created."""
        local = operation["run"]
        found = self._client.search_runs([self._experiment_id], f"tags.`{RUN_TAG}` = '{local}'", max_results=1)
        tags = {RUN_TAG: local, **operation["tags"]}
        if operation["parent"]:
            tags["mlflow.parentRunId"] = self.run_ids[operation["parent"]]
        if found:
            self.run_ids[local] = found[0].info.run_id
            self._client.update_run(self.run_ids[local], status="RUNNING")
            if operation["parent"]:  # of a stage that goes on in a later reproduction: it moves there
                self._send_pairs(self.run_ids[local], "tags", tags)
            return
        run = self._client.create_run(
            self._experiment_id, start_time=operation["start"], tags=tags, run_name=operation["name"]
        )
        self.run_ids[local] = run.info.run_id

    def _send_metrics(self, run_id: str, metrics: list[list[Any]]) -> None:
        from mlflow.entities import Metric

        for first in range(0, len(metrics), BATCH):
            batch = [Metric(*metric) for metric in metrics[first : first + BATCH]]
            self._client.log_batch(run_id, metrics=batch)

    def _send_pairs(self, run_id: str, kind: str, pairs: dict[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        entity = {"params": Param, "tags": RunTag}[kind]
        items = [entity(key, value) for key, value in pairs.items()]
        for first in range(0, len(items), _SMALL_BATCH):
            self._client.log_batch(run_id, **{kind: items[first : first + _SMALL_BATCH]})

    def _send_image(self, run_id: str, operation: Operation) -> None:
        from PIL import Image

        prefix = f"images/{operation['name'].replace('/', '~')}+step+0+"
        if self._has_artifact(run_id, "images", prefix):
            return
        with Image.open(operation["file"]) as image:
            self._client.log_image(run_id, image, key=operation["name"], step=0, synchronous=True)

    def _send_table(self, run_id: str, operation: Operation) -> None:
        from PIL import Image

        if self._has_artifact(run_id, operation["file"].rpartition("/")[0], operation["file"]):
            return  # MLflow would append the rows once more
        columns: dict[str, list[Any]] = {}
        for name, cells in operation["columns"].items():
            columns[name] = [_load(Image, cell["image"]) if isinstance(cell, dict) else cell for cell in cells]
        self._client.log_table(run_id, columns, operation["file"])

    def _has_artifact(self, run_id: str, folder: str, prefix: str) -> bool:
        """Whether an earlier try got through: these two would otherwise be there twice."""
        return any(item.path.startswith(prefix) for item in self._client.list_artifacts(run_id, folder or None))

    def _failed(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            print(
                f"warning: MLflow: {_one_line(error)}; going on, everything is kept in {self.journal.path}",
                file=sys.stderr,
            )
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        for seq, operation in self._pending:
            if operation["op"] in ("artifact", "image"):
                self.journal.keep_copy(seq, operation)


def _load(images: Any, path: str) -> Any:
    with images.open(path) as image:
        image.load()
        return image


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "…"
