"""`minivlm ui`: MLflow's web page over the store that the runs go to, on this machine alone."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from minivlm.command import App
from minivlm.errors import UserError
from minivlm.exits import end_undisturbed
from minivlm.ports import HOST, LAST, free_port

if TYPE_CHECKING:
    import psutil

SERVER_ENVIRONMENT = {
    # Eight more processes of 240 MB, for jobs over chats and traces that this project has none of.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # MLflow's own deprecation warnings are nothing that a reader of the page can act on.
    "PYTHONWARNINGS": "ignore",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
app = App(add_completion=False)


def server_command(uri: str, artifacts: str, port: int) -> list[str]:
    """The command line that serves the store at `uri` on `port` of the loopback interface."""
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", uri, "--registry-store-uri", uri, "--default-artifact-root", artifacts),
        *("--uvicorn-opts", "--log-level=warning"),
    ]


@app.command()
def command(
    port: Annotated[int, typer.Option(min=1, max=LAST, help="Port; the next free one when it is taken.")] = 5000,
) -> None:
    """Serve MLflow's web page over this project's runs, on loopback; of a MLFLOW_TRACKING_URI, say the address."""
    from minivlm.config import load_params
    from minivlm.paths import Paths
    from minivlm.tracking.page import address, has_model, model_address
    from minivlm.tracking.store import DATABASE, local_uri, prepare_environment, without_secrets
    from minivlm.tracking.view import view_for

    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith(("http://", "https://")):
        typer.echo(f"the runs are on the server of MLFLOW_TRACKING_URI: {without_secrets(uri)}")
        return
    paths = Paths()
    home, params = paths.tracking, load_params(paths.params)
    home.mkdir(parents=True, exist_ok=True)
    prepare_environment()
    uri = uri or local_uri(home)
    experiment_id, runs = _experiment(home, params.tracking.experiment, uri)
    chosen = free_port(port)  # as late as can be: another may take it before the server does
    served = server_command(uri, (home / "artifacts").resolve().as_uri(), chosen)
    page = address(f"http://{HOST}:{chosen}", experiment_id, view_for(params.download.source))
    typer.echo(f"MLflow: {page}  (ready in a few seconds; Ctrl-C ends it)")
    model = params.tracking.registered_model
    if uri == local_uri(home) and has_model(home / DATABASE, model):
        typer.echo(f"versions of the model: {model_address(f'http://{HOST}:{chosen}', model)}")
    if not runs:
        typer.echo("no run is there yet: `dvc repro` makes the first, and the page shows it while it runs")
    sys.stdout.flush()
    raise typer.Exit(run_server(served, os.environ | SERVER_ENVIRONMENT))


def run_server(served: list[str], environment: Mapping[str, str]) -> int:
    """Its exit code, or 0 once Ctrl-C, SIGTERM or SIGHUP has ended all that it started; a second one kills them.

    Its processes are born with SIGINT ignored: uvicorn takes it all the same and ends, and Python, which would end
    with a traceback, does not. Before uvicorn does, SIGTERM from here ends them.
    """
    import psutil

    asked: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        for each in _family(process.pid):
            with contextlib.suppress(psutil.Error):
                each.kill() if asked else each.terminate()
        asked.append(number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with subprocess.Popen(served, env=environment) as process:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, end)
        code = process.wait()
    if asked:
        end_undisturbed()
        return 0
    return code if code >= 0 else 128 - code  # ended by a signal, as a shell has it


def _family(number: int) -> "list[psutil.Process]":
    """A process and all that it started, they first."""
    import psutil

    try:
        process = psutil.Process(number)
        return [*process.children(recursive=True), process]
    except psutil.Error:  # it has ended
        return []


def _experiment(home: Path, name: str, uri: str) -> tuple[str, int]:
    """The id of the experiment, made or given this version's views where that is due, and how many runs it has.

    UserError when the store cannot be used. Left to itself, the server would make the tables of a local database
    in place, and a Ctrl-C meanwhile would leave half of them.
    """
    from minivlm.tracking.delivery import one_line
    from minivlm.tracking.page import LocalPage
    from minivlm.tracking.store import DATABASE, connect, local_uri, without_secrets

    known = LocalPage.read(home / DATABASE, name) if uri == local_uri(home) else None
    if known and known.is_fresh:
        return known.experiment_id, known.runs
    try:
        client, experiment_id = connect(home, name, uri)
        return experiment_id, len(client.search_runs([experiment_id], max_results=1))
    except Exception as error:  # whatever MLflow and the database raise
        raise UserError(f"{without_secrets(uri)}: {one_line(error)}") from None


if __name__ == "__main__":
    app()
