"""What each operation of a journal is in MLflow; sending one twice changes nothing.

A run is found by its tag `minivlm.run`. The tag `minivlm.journal` says when the journal was begun that took it up
last: what an older journal still says of it, delivered late, adds to the run and overrides nothing. A run without
that tag, where another has it, is one that the server made after nobody waited for it any more.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from pathlib import Path
from typing import Any

from minivlm.locks import exclusive
from minivlm.tracking.journal import JOURNAL_TAG, LostFileError, Operation
from minivlm.tracking.lineage import reused_tags, send_inputs
from minivlm.tracking.registry import Registry

RUN_TAG = "minivlm.run"
BATCH = 1000  # metrics of one log_batch, the server's limit; a batch costs 0.05 s, a single log_metric 0.003 s
_SMALL_BATCH = 100  # parameters or tags of one log_batch, the server's limit
_TABLES_TAG = "mlflow.loggedArtifacts"  # what the page's table view lists


class MissingRunError(Exception):
    """A run that was begun is not in MLflow: the store is another one than the one it was begun in."""


class Sender:
    """Carries operations out for a journal written since `created` (seconds since 1970)."""

    def __init__(self, client: Any, experiment_id: str, home: Path, created: float) -> None:
        self._client, self._experiment_id, self._created = client, experiment_id, created
        self._lock = home / ".runs.lock"  # who takes a run up, and who ends it, one after the other
        self._run_ids: dict[str, str] = {}  # this project's run id → MLflow's; "" of a deleted run

    def send(self, operation: Operation) -> None:
        """Carry out an operation.

        MissingRunError when its run was never begun here, LostFileError when its file cannot be read; else
        whatever the client raises. What is said of a run that was deleted is left out.
        """
        if operation["op"] == "run":
            self._start(operation)
            return
        run_id = self._run_id(operation["run"])
        if not run_id:
            return
        match operation["op"]:
            case "metrics":
                self._send_metrics(run_id, operation["metrics"])
            case "params":
                self._send_pairs(run_id, "params", operation["params"])
            case "tags":
                self._send_tags(run_id, operation["tags"])
            case "artifact":
                if not Path(operation["file"]).exists():
                    raise LostFileError(f"{operation['file']} is gone")
                self._client.log_artifact(run_id, operation["file"], operation["folder"] or None)
            case "image":
                self._send_image(run_id, operation)
            case "table":
                self._send_table(run_id, operation)
            case "inputs":
                send_inputs(self._client, run_id, operation)
            case "reused":
                self._send_tags(run_id, reused_tags(self._client, self._experiment_id, operation))
            case "model":
                with exclusive(self._lock.with_name(".models.lock")):  # an upload holds no other run up
                    Registry(self._client, self._experiment_id, self._created).register(operation, run_id)
            case "end":
                self._end(operation)

    def check_begun(self, run: str) -> None:
        """MissingRunError when `run`, which was begun earlier, is not in MLflow."""
        self._run_id(run)

    def is_deleted(self, run: str) -> bool:
        """Whether MLflow has `run` as deleted, and so gets nothing more of it. MissingRunError if not at all."""
        found = self._find(run)
        if found is None:
            raise MissingRunError(run)
        if found.info.lifecycle_stage != "active":
            self._run_ids[run] = ""
        return self._run_ids.get(run) == ""

    def _find(self, run: str) -> Any:
        """MLflow's run, deleted or not; None when there is none. What a late answer has made twice is deleted."""
        from mlflow.entities import ViewType

        said = f"tags.`{RUN_TAG}` = '{run}'"
        runs = self._client.search_runs([self._experiment_id], said, ViewType.ALL, max_results=100)
        runs.sort(key=lambda run: (JOURNAL_TAG not in run.data.tags, run.info.lifecycle_stage != "active"))
        for double in runs[1:]:
            if double.info.lifecycle_stage == "active":
                self._client.delete_run(double.info.run_id)
        return runs[0] if runs else None

    def _run_id(self, run: str) -> str:
        if run not in self._run_ids:
            found = self._find(run)
            if found is None:
                raise MissingRunError(run)
            self._run_ids[run] = found.info.run_id if found.info.lifecycle_stage == "active" else ""
        return self._run_ids[run]

    def _is_newest(self, run: Any) -> bool:
        """Whether no later journal has taken the run up."""
        return float(run.data.tags.get(JOURNAL_TAG, 0)) <= self._created

    def _start(self, operation: Operation) -> None:
        """Create the run, or take up the one that an earlier stage or an earlier try has created."""
        local, tags = operation["run"], {RUN_TAG: operation["run"], **operation["tags"]}
        parent = self._run_id(operation["parent"]) if operation["parent"] else ""
        if parent:
            tags["mlflow.parentRunId"] = parent
        with exclusive(self._lock):
            run = self._find(local)
            if run is None:
                run = self._client.create_run(
                    self._experiment_id, start_time=operation["start"], tags=tags, run_name=operation["name"]
                )
            run_id = self._run_ids[local] = run.info.run_id
            mine = {JOURNAL_TAG: repr(self._created)}  # every digit, to be compared
            if run.info.lifecycle_stage != "active":
                if float(run.data.tags.get(JOURNAL_TAG, 0)) >= self._created:
                    self._run_ids[local] = ""
                    return
                self._client.restore_run(run_id)  # deleted in the page, and now it is gone on with
            if self._is_newest(run):
                self._client.update_run(run_id, status="RUNNING")
                # Of a stage that goes on in a later reproduction: it moves there.
                self._send_pairs(run_id, "tags", tags | mine if operation["parent"] else mine)
            else:
                self._send_pairs(run_id, "tags", {k: v for k, v in tags.items() if k not in run.data.tags})

    def _end(self, operation: Operation) -> None:
        with exclusive(self._lock):
            run = self._find(operation["run"])
            if run is None:
                raise MissingRunError(operation["run"])
            if run.info.lifecycle_stage == "active" and self._is_newest(run):
                self._client.set_terminated(run.info.run_id, operation["status"], operation["end"])

    def _send_tags(self, run_id: str, tags: dict[str, str]) -> None:
        run = self._client.get_run(run_id)
        if not self._is_newest(run):
            tags = {key: value for key, value in tags.items() if key not in run.data.tags}
        self._send_pairs(run_id, "tags", tags)

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
        """As `MlflowClient.log_image` does, under names that a second try makes again: else it is there twice."""
        from mlflow.tracking.multimedia import compress_image_size

        key = operation["name"].replace("/", "~")
        same = uuid.uuid5(uuid.NAMESPACE_URL, f"{operation['run']}/{operation['seq']}")
        name = f"{key}+step+0+timestamp+{operation.get('time', 0)}+{same}"
        image = _load(operation["file"])
        with tempfile.TemporaryDirectory() as folder:
            image.save(Path(folder, f"{name}.png"))
            compress_image_size(image).save(Path(folder, f"{name}+compressed.webp"))
            self._client.log_artifacts(run_id, folder, "images")
        self._client.set_tag(run_id, "mlflow.loggedImages", True)

    def _send_table(self, run_id: str, operation: Operation) -> None:
        file = operation["file"]
        there = {item.path for item in self._client.list_artifacts(run_id, file.rpartition("/")[0] or None)}
        if file not in there:  # else an earlier try got through, and MLflow would append the rows once more
            columns: dict[str, list[Any]] = {}
            for name, cells in operation["columns"].items():
                columns[name] = [_load(cell["image"]) if isinstance(cell, dict) else cell for cell in cells]
            self._client.log_table(run_id, columns, file)
            return
        tables = json.loads(self._client.get_run(run_id).data.tags.get(_TABLES_TAG, "[]"))
        if (table := {"path": file, "type": "table"}) not in tables:  # it got no further than the file
            self._client.set_tag(run_id, _TABLES_TAG, json.dumps([*tables, table]))


def _load(path: str) -> Any:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return image
    except OSError as error:
        raise LostFileError(f"{path}: {error}") from error
