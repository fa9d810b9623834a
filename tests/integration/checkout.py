"""A checkout of its own: this repository's files in a new git repository, and commands run as a user runs them."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Put into the checkout's package: writes down from where it was imported.
RECORD = """
import os as _os
if "MINIVLM_RECORD" in _os.environ:
    with open(_os.environ["MINIVLM_RECORD"], "a") as _record:
        _record.write(__file__ + "\\n")
"""
# Put into its training: so many processes load rows, where it would start none for so few rows, or so few cores.
LOADERS = """
if "MINIVLM_LOADERS" in os.environ:

    def loader_workers(*arguments, **options):
        with open(os.environ["MINIVLM_RECORD"] + ".loaders", "a") as record:
            record.write(os.environ["MINIVLM_LOADERS"] + "\\n")
        return int(os.environ["MINIVLM_LOADERS"])
"""


class Checkout:
    """A git repository with the files of this one and the tiny profile; `environment` is set for every command."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.root = folder / "minivlm"
        self.record = folder / "imported"
        self.environment = environment
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in names.split("\0"):
            if name and (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)
        for module, code in (("__init__", RECORD), ("training/device", LOADERS)):
            with (self.root / f"src/minivlm/{module}.py").open("a", encoding="utf-8") as stream:
                stream.write(code)
        self.run("git", "init", "--quiet")
        self.run("git", "config", "user.name", "test")
        self.run("git", "config", "user.email", "test@example.org")
        self.minivlm("profile", "tiny")
        self.commit("tiny")

    def start(self, *command: str) -> subprocess.Popen[str]:
        """A running command in a process group of its own, without what DVC or pytest set in the environment."""
        foreign = ("DVC_", "MLFLOW_", "PYTEST_", "GIT_")
        own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
        own["MINIVLM_RECORD"] = str(self.record)
        return subprocess.Popen(
            command,
            cwd=self.root,
            env={**own, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str) -> str:
        """Standard output of a command that has to succeed."""
        process = self.start(*command)
        output, errors = process.communicate()
        assert process.returncode == 0, f"{' '.join(command)}\n{output[-6000:]}\n{errors[-6000:]}"
        return output

    def minivlm(self, *arguments: str) -> str:
        """The command `minivlm` of this checkout: an installed one would work on its own."""
        code = "import sys; sys.path.insert(0, 'src'); from minivlm.cli.main import app; app()"
        return self.run(sys.executable, "-c", code, *arguments)

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", message)

    def imported_from(self) -> set[Path]:
        """The checkouts that the package was imported from since the last call."""
        lines = self.record.read_text(encoding="utf-8").splitlines() if self.record.exists() else []
        self.record.unlink(missing_ok=True)
        return {Path(line).parents[2] for line in lines}

    def loaders(self) -> list[int]:
        """How many processes were to load rows, each time that some were."""
        asked = self.record.with_name(f"{self.record.name}.loaders")
        return [int(line) for line in asked.read_text(encoding="utf-8").splitlines()] if asked.exists() else []

    def tracked_runs(self) -> int:
        """Runs in the checkout's own MLflow store."""
        with closing(sqlite3.connect(next((self.root / "mlruns").glob("*.db")))) as store:
            return int(store.execute("select count(*) from runs").fetchone()[0])

    def reproductions(self) -> set[str]:
        """Names of the runs that stages' runs lie below."""
        with closing(sqlite3.connect(next((self.root / "mlruns").glob("*.db")))) as store:
            asked = (
                "select name from runs where run_uuid in (select value from tags where key = 'mlflow.parentRunId')"
            )
            return {name for (name,) in store.execute(asked)}


def stages_run(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]
