"""A training stage at toy size in a checkout of its own, run as the command that a user runs."""

import csv
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from ruamel.yaml import YAML

from tests.unit.model.tiny import write_base
from tests.unit.training.stores import write_inputs

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {
    "freeze": "llm", "learning_rate": 1e-2, "precision": "fp32", "validations": 3, "log_steps": 1,
    # An epoch has 14 micro-batches, some of them without a picture: steps of 13, an odd number, and of 1.
    "epochs": 6.0, "batch_tokens": 48, "accumulation": 13,
}  # fmt: skip


def write_toy_inputs(folder, scratch):
    """artifacts/ as `base` and `tokenize` leave them for pretrain, in `folder`."""
    base = write_base(scratch / "base", layer=-2)
    write_inputs(base, folder / "base", folder / "tokenize/pretrain", folder / "tokenize/pictures")
    return folder


class Stage:
    """A checkout with inputs for pretrain, which trains all of the language model."""

    def __init__(self, root, inputs):
        self.root = root
        for name in ("src", "pipelines"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(inputs, root / "artifacts")
        self.values = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
        self.values["pretrain"] = dict(OPTIONS)
        self.values["tokenize"]["max_length"] = OPTIONS["batch_tokens"]  # no toy row is longer
        self.values["threads"] = 1
        self.values["runtime"]["device"] = "cpu"
        self.set()

    def set(self, **runtime):
        """Values of `runtime`, and of `pretrain` where it has them; whether MLflow `tracking` is on."""
        self.values["tracking"]["enabled"] = runtime.pop("tracking", False)
        for name, value in runtime.items():
            section = "pretrain" if name in OPTIONS else "runtime"
            self.values[section][name] = value
        with (self.root / "params.yaml").open("w") as stream:
            YAML(typ="safe", pure=True).dump(self.values, stream)
        return self

    def start(self, *command, **options):
        # Nothing of a launch that these tests may run under, and as many threads as the stage has.
        unset = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "MINIVLM_", "OMP_", "DVC_", "MLFLOW_")
        own = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
        own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
        return subprocess.Popen(
            command or (sys.executable, "-m", "pipelines.pretrain"), cwd=self.root, env=own, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
        )  # fmt: skip

    @staticmethod
    def python(*arguments):
        """A command of this interpreter."""
        return (sys.executable, *arguments)

    def run(self, *command):
        """(exit code, output, errors) of the stage."""
        process = self.start(*command)
        try:
            output, errors = process.communicate(timeout=240)
        finally:
            process.kill()
        return process.returncode, output, errors

    def history(self):
        with (self.root / "reports/pretrain/loss.csv").open(newline="") as stream:
            return [{key: float(value or "nan") for key, value in row.items()} for row in csv.DictReader(stream)]

    def store(self, query):
        """What the checkout's MLflow store answers."""
        with closing(sqlite3.connect(next((self.root / "mlruns").glob("*.db")))) as store:
            return list(store.execute(query))
