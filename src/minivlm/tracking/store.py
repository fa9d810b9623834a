"""Where runs go: a local database by default, a server by MLFLOW_TRACKING_URI; quiet and quick to give up."""

import contextlib
import os
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from minivlm.files import sync
from minivlm.locks import exclusive
from minivlm.tracking.page import experiment_tags, refresh

DATABASE = "mlflow.db"
"""The local store, below mlruns/."""
CONNECT_SECONDS = 3.0
"""How long a server may take to accept a connection before it counts as dead."""

ENVIRONMENT = {
    # Nothing is reported to anyone.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # The client's defaults retry a dead server for 246 s; the journal makes waiting pointless. And it would repeat
    # what made a run and was not answered in time, which makes two.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    # Bars of its own would break the stage's.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # The update check of gitpython: a missing git is no error here.
    "GIT_PYTHON_REFRESH": "quiet",
}


def prepare_environment() -> None:
    """Set MLflow's switches before its first import; what the user has set stays."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def local_uri(home: Path) -> str:
    """The absolute sqlite URI below `home` (mlruns/): the same from every checkout and working directory."""
    return f"sqlite:///{home.resolve().as_posix()}/{DATABASE}"


def tracking_uri(home: Path) -> str:
    """MLFLOW_TRACKING_URI, or the local database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or local_uri(home)


def server_name() -> str:
    """MLFLOW_TRACKING_URI as a journal may keep it, without user and password; "" for the local database."""
    return without_secrets(os.environ.get("MLFLOW_TRACKING_URI", ""))


def uri_of(server: str, home: Path) -> str:
    """Where a journal's `server` is: with user and password where MLFLOW_TRACKING_URI is the same and has them."""
    if not server:
        return local_uri(home)
    return os.environ["MLFLOW_TRACKING_URI"] if server == server_name() else server


def without_secrets(text: str) -> str:
    """A text with addresses in it, without the users and passwords of these."""
    return re.sub(r"://[^/\s]*@", "://", text)


def check_reachable(uri: str) -> None:
    """ConnectionError when nobody accepts connections at an http(s) URI; says nothing about other URIs.

    requests has one time limit for connecting and for answering: a host that drops packets would cost the
    long one.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.scheme in getproxies():
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise ConnectionError(f"{parts.scheme}://{parts.hostname}:{port}: {error}") from None


def _make_database(home: Path) -> None:
    """Make the local database aside where there is none: with half of its tables MLflow never takes it again."""
    database = home / DATABASE
    if database.exists():
        return
    from mlflow.tracking import MlflowClient

    for left in home.glob(f".{DATABASE}.*"):  # of a process that was killed
        left.unlink()
    aside = home / f".{DATABASE}.{os.getpid()}"
    MlflowClient(f"sqlite:///{aside.resolve().as_posix()}").search_experiments()  # has it make its tables
    aside.replace(database)
    sync(home)


def connect(home: Path, experiment: str, uri: str = "") -> tuple[Any, str]:
    """An MlflowClient of `uri` ("": of `tracking_uri`) and the id of the experiment, both made when missing.

    The first use of the local database creates its tables (seconds, once); two processes that start together
    wait for each other. Raises whatever the client raises.
    """
    uri = uri or tracking_uri(home)
    check_reachable(uri)
    prepare_environment()
    import logging

    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    local = uri == local_uri(home)
    home.mkdir(parents=True, exist_ok=True)
    with exclusive(home / ".lock"):
        if local:
            _make_database(home)
        client = MlflowClient(uri)
        found = client.get_experiment_by_name(experiment)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            with contextlib.suppress(MlflowException):  # on a server where one may write runs and no experiments
                refresh(client, found)
            return client, found.experiment_id
        try:
            # A server decides for itself where its artifacts lie.
            folder = (home.resolve() / "artifacts").as_uri() if local else None
            return client, client.create_experiment(experiment, folder, experiment_tags())
        except MlflowException:  # someone on another machine was quicker
            found = client.get_experiment_by_name(experiment)
            if found is None:
                raise
            return client, found.experiment_id
