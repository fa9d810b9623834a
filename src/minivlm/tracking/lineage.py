"""Where a run's material comes from, in MLflow: its data sets, and the runs whose outputs it took over.

What the operations `inputs` and `reused` of a journal are there. Both may be sent twice: MLflow keeps one input of
the same name and digest of a run, and a tag has one value.
"""

from __future__ import annotations

import time
from typing import Any

from minivlm.tracking.journal import Operation

STAGE_TAG, OUTPUTS_TAG, NOTE_TAG = "stage", "outputs", "mlflow.note.content"
ELSEWHERE = "made elsewhere"
_CONTEXT = "mlflow.data.context"


def send_inputs(client: Any, run_id: str, operation: Operation) -> None:
    """Add the data sets to the run."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for said in operation["datasets"]:
        tags = {_CONTEXT: said["context"], **said["tags"]}
        about = {name: said[name] for name in ("name", "digest", "source", "schema", "profile")}
        dataset = Dataset(source_type="local", **about)
        inputs.append(DatasetInput(dataset, [InputTag(key, value) for key, value in tags.items()]))
    client.log_inputs(run_id, datasets=inputs)


def reused_tags(client: Any, experiment_id: str, operation: Operation) -> dict[str, str]:
    """`reused.<stage>`: the run that made what a reproduction has of a stage that it skipped; and a description.

    It is the last finished run of that stage that left outputs of the same digest and began before the stage that
    tells of it. An output that no run of this store has left, because DVC brought it from another machine's cache,
    was made elsewhere.
    """
    rows, tags = [], {}
    for stage, digest in operation["stages"].items():
        run = _maker(client, experiment_id, stage, digest, operation["before"])
        tags[f"reused.{stage}"] = run.info.run_id if run else ELSEWHERE
        rows.append(_row(stage, experiment_id, run))
    table = "\n".join((_line("stage", "run", "made (UTC)", "hours"), "| --- | --- | --- | --- |", *rows))
    said = "Stages that were not run again, because nothing that they depend on has changed:"
    return tags | {NOTE_TAG: "\n\n".join(filter(None, (operation["note"], said, table)))}


def _maker(client: Any, experiment_id: str, stage: str, digest: str, before: int) -> Any:
    said = (
        f"tags.`{STAGE_TAG}` = '{stage}' and tags.`{OUTPUTS_TAG}` = '{digest}' "
        f"and attributes.status = 'FINISHED' and attributes.start_time <= {before}"
    )
    found = client.search_runs([experiment_id], said, max_results=1, order_by=["attributes.start_time DESC"])
    return found[0] if found else None


def _row(stage: str, experiment_id: str, run: Any) -> str:
    if run is None:
        return _line(stage, ELSEWHERE, "", "")
    link = f"#/experiments/{experiment_id}/runs/{run.info.run_id}?workflowType=machine_learning"
    name = run.data.tags.get("reproduction", run.info.run_id[:8])
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(run.info.start_time / 1000))
    hours = run.data.metrics.get("hours")
    return _line(stage, f"[{stage} of {name}]({link})", when, "" if hours is None else f"{hours:.4f}")


def _line(*cells: str) -> str:
    """A row of a table; the page draws no space between columns, so each cell ends in a wide one."""
    return "|".join(("", *(f" {cell}&emsp;" for cell in cells), ""))
