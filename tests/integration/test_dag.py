"""The whole pipeline at toy size, in a checkout of its own: what runs, what does not run again, what it writes."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from minivlm.config import load_params
from minivlm.paths import STAGES, Paths

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
# Put into the checkout's package: writes down from where it was imported.
RECORD = """
import os as _os
if "MINIVLM_RECORD" in _os.environ:
    with open(_os.environ["MINIVLM_RECORD"], "a") as _record:
        _record.write(__file__ + "\\n")
"""


class Checkout:
    """A git repository with the files of this one, the tiny profile, and commands run as a user runs them."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "minivlm"
        self.record = folder / "imported"
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in names.split("\0"):
            if name and (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)
        with (self.root / "src/minivlm/__init__.py").open("a", encoding="utf-8") as package:
            package.write(RECORD)
        self.run("git", "init", "--quiet")
        self.run("git", "config", "user.name", "test")
        self.run("git", "config", "user.email", "test@example.org")
        self.run(sys.executable, "-m", "minivlm.cli.main", "profile", "tiny", PYTHONPATH="src")
        self.commit("tiny")

    def run(self, *command: str, **environment: str) -> str:
        """Standard output; the environment is a user's, without what DVC or pytest set."""
        foreign = ("DVC_", "MLFLOW_", "PYTEST_", "GIT_")
        own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
        own["MINIVLM_RECORD"] = str(self.record)
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**own, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done.stdout

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", message)

    def imported_from(self) -> set[Path]:
        """The checkouts that the package was imported from since the last call."""
        lines = self.record.read_text(encoding="utf-8").splitlines() if self.record.exists() else []
        self.record.unlink(missing_ok=True)
        return {Path(line).parents[2] for line in lines}

    def tracked_runs(self) -> int:
        """Runs in the checkout's own MLflow store."""
        with closing(sqlite3.connect(next((self.root / "mlruns").glob("*.db")))) as store:
            return int(store.execute("select count(*) from runs").fetchone()[0])


def stages_run(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("dag"))


@pytest.fixture(scope="module")
def first(checkout):
    """The output of the first run, whose reports and dvc.lock are committed."""
    checkout.imported_from()
    output = checkout.run("dvc", "repro")
    checkout.commit("first run")
    return output


def test_the_whole_pipeline_runs_its_own_code_and_writes_what_it_declares(checkout, first):
    assert stages_run(first) == list(STAGES)
    assert checkout.imported_from() == {checkout.root}
    locked = YAML(typ="safe").load(checkout.root / "dvc.lock")["stages"]
    outs = [out["path"] for stage in locked.values() for out in stage["outs"]]
    assert [out for out in outs if not (checkout.root / out).exists()] == []
    assert checkout.tracked_runs() > len(STAGES)


def test_only_declared_files_and_no_run_dependent_ones_are_new_to_git(checkout, first):
    assert checkout.run("git", "status", "--porcelain") == ""
    tracked = checkout.run("git", "ls-files", "reports").split()
    assert not [name for name in tracked if name.endswith(("cost.json", "index.html")) or "data_docs" in name]


def test_a_second_run_runs_nothing_in_under_three_seconds(checkout, first):
    before = os.times()
    output = checkout.run("dvc", "repro")
    after = os.times()
    assert stages_run(output) == []
    assert "Data and pipelines are up to date." in output
    assert checkout.run("git", "status", "--porcelain") == ""
    # Processor time, so that a busy machine does not count.
    assert after.children_user - before.children_user + after.children_system - before.children_system < 3


def test_outputs_hold_no_time_and_no_path_of_this_machine(checkout, first):
    for path in [*(checkout.root / "artifacts").rglob("*"), checkout.root / "dvc.lock"]:
        if path.is_file():
            assert str(checkout.root).encode() not in path.read_bytes(), path


def test_parameters_of_no_stage_run_nothing(checkout, first):
    params = checkout.root / "params.yaml"
    text = params.read_text(encoding="utf-8")
    changed = text.replace("cpu_hour: 0.2", "cpu_hour: 0.3").replace("workers: 0", "workers: 1")
    assert changed != text
    params.write_text(changed, encoding="utf-8")
    try:
        assert checkout.run("dvc", "status", "--json").strip() == "{}"
    finally:
        params.write_text(text, encoding="utf-8")


def test_an_experiment_in_a_temporary_checkout_runs_only_sft_and_evaluate(checkout, first):
    checkout.imported_from()
    runs = checkout.tracked_runs()
    output = checkout.run("dvc", "exp", "run", "--temp", "--name", "faster", "-S", "sft.learning_rate=5e-3")
    assert stages_run(output) == ["sft", "evaluate"]
    (temporary,) = checkout.imported_from()
    assert temporary.is_relative_to(checkout.root / ".dvc" / "tmp"), "a stage ran the code of another checkout"
    assert checkout.tracked_runs() >= runs + 2, "the experiment's runs are not in the user's own store"
    assert checkout.run("git", "status", "--porcelain") == "", "the user's files changed"


def test_experiments_can_be_compared(checkout, first):
    rows = json.loads(checkout.run("dvc", "exp", "show", "--json"))
    (workspace,) = [row for row in rows if row["rev"] == "workspace"]
    assert (
        workspace["data"]["params"]["params.yaml"]["data"]["sft"]["learning_rate"]
        == load_params(Paths().params).sft.learning_rate
    )
    differences = json.loads(checkout.run("dvc", "metrics", "diff", "--json", "faster"))
    assert "reports/sft/metrics.json" in differences
    assert "reports/pretrain/metrics.json" not in differences
    checkout.run("dvc", "plots", "diff", "faster", "--out", "../plots")


def test_the_same_seed_gives_the_same_bytes(checkout, first):
    lock = (checkout.root / "dvc.lock").read_bytes()
    output = checkout.run("dvc", "repro", "--force")
    assert stages_run(output) == list(STAGES)
    assert (checkout.root / "dvc.lock").read_bytes() == lock
    assert checkout.run("git", "status", "--porcelain") == ""
