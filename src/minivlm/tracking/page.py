"""How MLflow's page opens on this project: training runs, a line a reproduction, with the columns that matter."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

_VIEW = "reproductions"  # the name of the shared view, in the experiment's tag and in the address
_COLUMNS = (
    "metrics.`hours`",
    "metrics.`money`",
    "metrics.`pretrain.val_loss`",
    "metrics.`sft.val_loss`",
    "metrics.`evaluate.pretrain.heldout.attribute_recall`",
    "metrics.`evaluate.sft.heldout.attribute_recall`",
    "metrics.`evaluate.sft.heldout.exact_scene`",
    "metrics.`evaluate.sft.heldout.image_gap`",
    "metrics.`evaluate.sft.compositional.attribute_recall`",
    "params.`download.source`",
    "params.`sft.learning_rate`",
    "tags.`git.dirty`",
)


def experiment_tags() -> dict[str, str]:
    """Tags of a new experiment: of training rather than of chats, and a shared view as the page itself makes them.

    What a user changes in the page stays in their browser; the address with the view's name leads back to it.
    """
    # Wide enough to read the end of a name, where the names differ; the page takes widths only with an order.
    widths = {column: max(80, 6 * len(column) - 10) for column in _COLUMNS}
    view = {"selectedColumns": list(_COLUMNS), "columnOrder": list(_COLUMNS), "columnWidths": widths}
    return {
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{_VIEW}": json.dumps(view),
    }


def address(server: str, database: Path, experiment: str) -> str:
    """Where to look: the view of the experiment in the local `database`, or the server's front page without it.

    Asks the database itself, because importing mlflow for one number costs two seconds.
    """
    if not database.is_file():
        return server
    try:
        with closing(sqlite3.connect(f"file:{database.as_posix()}?mode=ro", uri=True)) as connection:
            query = "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'active'"
            found = connection.execute(query, (experiment,)).fetchone()
    except sqlite3.Error:
        return server
    if found is None:
        return server
    return f"{server}/#/experiments/{found[0]}/runs?viewStateShareKey={_VIEW}&workflowType=machine_learning"
