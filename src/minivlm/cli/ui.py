"""`minivlm ui`: MLflow's web page over the store that the runs go to, on this machine alone."""

import os
import socket
import subprocess
import sys
from typing import Annotated

import typer

from minivlm.errors import UserError
from minivlm.paths import Paths
from minivlm.stage import one_line_errors
from minivlm.tracking.store import local_uri, prepare_environment

HOST = "127.0.0.1"
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
        *("--backend-store-uri", uri, "--default-artifact-root", artifacts),
    ]


@app.command(help="Serve MLflow's web page over the runs of this project, on loopback.")
def ui(port: Annotated[int, typer.Option(help="Port; the next free one when it is taken.")] = 5000) -> None:
    """Serve until Ctrl-C. With MLFLOW_TRACKING_URI set to a server, say its address: it has a page already."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith(("http://", "https://")):
        typer.echo(
            f"the runs are on the server of MLFLOW_TRACKING_URI: {uri.rpartition('@')[2] if '@' in uri else uri}"
        )
        return
    with one_line_errors():
        home = Paths().tracking
        home.mkdir(exist_ok=True)
        chosen = free_port(port)
        prepare_environment()
        typer.echo(f"MLflow: http://{HOST}:{chosen}  (Ctrl-C ends it)")
        command = server_command(uri or local_uri(home), (home / "artifacts").resolve().as_uri(), chosen)
        server = subprocess.Popen(command)
        try:
            code = server.wait()
        except KeyboardInterrupt:
            # The terminal has sent Ctrl-C to the server too.
            server.wait()
            return
    raise typer.Exit(code)


if __name__ == "__main__":
    app()
