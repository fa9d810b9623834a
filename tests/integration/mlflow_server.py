"""Real MLflow servers to be frozen and killed: processes on 127.0.0.1, over SQLite and over PostgreSQL."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from minivlm.ports import HOST, free_port

DRIVERS = ("psycopg2", "psycopg")
_NOBODY = "nobody"  # PostgreSQL refuses to run as root


def wait_until(condition, seconds=120.0, why="nothing happened"):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, why
        time.sleep(0.05)


def first_line(process, seconds=120.0):
    """What a process that leads a session of its own prints first; it is ended where that takes too long."""
    timer = threading.Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    try:
        said = process.stdout.readline()
    finally:
        timer.cancel()
    assert said, f"no line within {seconds:g} s, or it ended: {process.args}"
    return said


class MlflowServer:
    """`mlflow server` over the database at `store`, which a test can take away and bring back at its address."""

    def __init__(self, folder: Path, store: str) -> None:
        self.store, self.folder = store, folder
        self.port = free_port()
        self.uri = f"http://{HOST}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.kill()

    def start(self):
        """Start it, and wait until it answers."""
        command = [
            *(
                sys.executable,
                "-m",
                "mlflow",
                "server",
                "--workers",
                "1",
                "--host",
                HOST,
                "--port",
                f"{self.port}",
            ),
            *("--backend-store-uri", self.store),
            *("--artifacts-destination", (self.folder / "artifacts").as_uri()),
            *("--uvicorn-opts", "--log-level=warning"),
        ]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        own = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=own | quiet | {"DO_NOT_TRACK": "true"}, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self.answers, why=f"the server did not start: {self.folder / 'server.log'}")
        return self

    def answers(self):
        is_running = self._process is not None and self._process.poll() is None
        assert is_running, f"it ended: {self.folder / 'server.log'}"
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
            return answer.status == 200
        return False

    def freeze(self):
        """Have it accept connections and answer nothing, until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self):
        self._signal(signal.SIGCONT)

    def kill(self):
        """End it at once; nothing listens at its port any more."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def rows(self, query):
        """What the database itself answers."""
        import sqlalchemy

        engine = sqlalchemy.create_engine(self.store)
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(sqlalchemy.text(query))]
        finally:
            engine.dispose()


def postgres_programs():
    """The folder of PostgreSQL's programs; None without any."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    return max(found, key=lambda path: path.parent.name, default=None)


def postgres_missing():
    """Why PostgreSQL cannot be tried here, in one line; "" when it can."""
    if postgres_programs() is None:
        return "no PostgreSQL (Debian's package: postgresql)"
    if not any(map(importlib.util.find_spec, DRIVERS)):
        return "no driver for PostgreSQL (psycopg2-binary, of the extra dev)"
    return ""


class Postgres:
    """A throwaway cluster; to be used in a `with`, which yields the URI of an empty database."""

    def __enter__(self):
        programs = postgres_programs()
        self._folder = Path(tempfile.mkdtemp(prefix="minivlm-postgres-"))
        identity = {}
        if os.getuid() == 0:
            nobody = pwd.getpwnam(_NOBODY)
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
            identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        data, port = self._folder / "data", free_port()
        options = {"cwd": self._folder, **identity}
        make = [programs / "initdb", "--pgdata", data, "--username=minivlm", "--auth=trust", "--encoding=UTF8"]
        subprocess.run([*make, "--locale=C", "--no-sync"], check=True, capture_output=True, **options)
        settings = {"listen_addresses": HOST, "port": port, "unix_socket_directories": "", "fsync": "off"}
        command = [programs / "postgres", "-D", data, *(f"--{name}={value}" for name, value in settings.items())]
        with (self._folder / "postgres.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **options)
        ready = [programs / "pg_isready", "--quiet", "--host", HOST, "--port", str(port)]
        wait_until(lambda: subprocess.run(ready).returncode == 0, why=(self._folder / "postgres.log").read_text())
        driver = next(filter(importlib.util.find_spec, DRIVERS))
        return f"postgresql+{driver}://minivlm@{HOST}:{port}/postgres"

    def __exit__(self, *error):
        self._process.send_signal(signal.SIGINT)  # "fast": ends the sessions, then itself
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def database(kind, folder):
    """The URI of an empty database of `kind`, "sqlite" or "postgresql"."""
    if kind == "sqlite":
        yield f"sqlite:///{(folder / 'server.db').resolve()}"
    else:
        with Postgres() as uri:
            yield uri
