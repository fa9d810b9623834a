"""MLflow's page on this project: what its experiment is given, and the address that opens it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from minivlm.tracking.view import VERSION, VERSION_TAG, View, views_tags

_NOTE = "mlflow.note.content"


def experiment_tags() -> dict[str, str]:
    """Tags of a new experiment: of training rather than of chats, what its runs are, and the views of them."""
    return {
        "mlflow.experimentKind": "custom_model_development",
        _NOTE: "Each run is one *reproduction*: the pipeline run once, by `dvc repro` or `dvc exp run`; the runs "
        "below it are its stages. **Views** has the columns and charts to compare them by.",
        **views_tags(),
    }


def stale_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """What an experiment with these tags is to be given; {} where a version of minivlm that is no older has been.

    A description that somebody has written stays.
    """
    given = tags.get(VERSION_TAG, "0")
    if given.isdecimal() and int(given) >= VERSION:
        return {}
    return {key: value for key, value in experiment_tags().items() if key != _NOTE or key not in tags}


def refresh(client: Any, experiment: Any) -> None:
    """Give an experiment that was made by an earlier version the views of this one."""
    for key, value in stale_tags(experiment.tags).items():
        client.set_experiment_tag(experiment.experiment_id, key, value)


@dataclass(frozen=True)
class LocalPage:
    """What the local database has of the experiment: its id and the number of its runs, and whether its views are
    those of this version."""

    experiment_id: str
    runs: int
    is_fresh: bool

    @classmethod
    def read(cls, database: Path, experiment: str) -> LocalPage | None:
        """Of the experiment of that name; None where there is none yet, or no database that can be read.

        Asks the database itself, because importing mlflow for three values costs two seconds.
        """
        if not database.is_file():
            return None
        active = "lifecycle_stage = 'active'"
        try:
            with closing(sqlite3.connect(f"file:{database.as_posix()}?mode=ro", uri=True)) as connection:
                query = f"SELECT experiment_id FROM experiments WHERE name = ? AND {active}"
                found = connection.execute(query, (experiment,)).fetchone()
                if found is None:
                    return None
                query = f"SELECT count(*) FROM runs WHERE experiment_id = ? AND {active}"
                runs = connection.execute(query, found).fetchone()[0]
                query = "SELECT key, value FROM experiment_tags WHERE experiment_id = ?"
                return cls(str(found[0]), runs, not stale_tags(dict(connection.execute(query, found))))
        except sqlite3.Error:
            return None


def address(server: str, experiment_id: str, view: View) -> str:
    """Where a view of the experiment is, on the page at `server`."""
    place = f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs"
    return f"{place}?viewStateShareKey={view.key}&workflowType=machine_learning"


def model_address(server: str, name: str) -> str:
    """Where the versions of a registered model are: in MLflow's part for training, which alone has a registry."""
    return f"{server.rstrip('/')}/#/models/{quote(name, safe='')}?workflowType=machine_learning"


def has_model(database: Path, name: str) -> bool:
    """Whether the local database has a registered model of that name."""
    try:
        with closing(sqlite3.connect(f"file:{database.as_posix()}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("SELECT 1 FROM registered_models WHERE name = ?", (name,)).fetchone())
    except sqlite3.Error:
        return False
