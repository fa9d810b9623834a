"""`minivlm ui`: MLflow's web page over the store that the runs go to, on this machine alone."""

import os
import socket
import sys
from typing import Annotated

import typer

from minivlm.config import load_params
from minivlm.errors import UserError
from minivlm.paths import Paths
from minivlm.stage import one_line_errors
from minivlm.tracking.page import address
from minivlm.tracking.store import local_uri, prepare_environment, without_secrets

HOST = "127.0.0.1"
SERVER_ENVIRONMENT = {
    # Eight more processes of 240 MB, for jobs over chats and traces that this project has none of.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # MLflow's own deprecation warnings are nothing that a reader of the page can act on.
    "PYTHONWARNINGS": "ignore",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def free_port(wanted: int, attempts: int = 50) -> int:
    """The first port from `wanted` on that nothing listens on; UserError when there is none among `attempts`."""
    for port in range(wanted, wanted + attempts):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise UserError(f"ports {wanted} to {wanted + attempts - 1} are all in use; choose another with --port")


def server_command(uri: str, artifacts: str, port: int) -> list[str]:
    """The command line that serves the store at `uri` on `port` of the loopback interface."""
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", uri, "--registry-store-uri", uri, "--default-artifact-root", artifacts),
        *("--uvicorn-opts", "--log-level=warning"),
    ]


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port; the next free one when it is taken.")] = 5000) -> None:
    """Serve MLflow's web page over this project's runs, on loopback; of a MLFLOW_TRACKING_URI, say the address."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith(("http://", "https://")):
        typer.echo(f"the runs are on the server of MLFLOW_TRACKING_URI: {without_secrets(uri)}")
        return
    with one_line_errors():
        paths = Paths()
        home = paths.tracking
        home.mkdir(parents=True, exist_ok=True)
        chosen = free_port(port)
        prepare_environment()
        command = server_command(uri or local_uri(home), (home / "artifacts").resolve().as_uri(), chosen)
        experiment = load_params(paths.params).tracking.experiment
        page = address(f"http://{HOST}:{chosen}", home / "mlflow.db", experiment)
    typer.echo(f"MLflow: {page}  (ready in a few seconds; Ctrl-C ends it)")
    sys.stdout.flush()
    # The server takes this process's place, so that Ctrl-C and a supervisor's signal reach it.
    os.execve(command[0], command, os.environ | SERVER_ENVIRONMENT)


if __name__ == "__main__":
    app()
