"""The command surface: quick help without heavy packages."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from minivlm.cli.main import app
from tests.contract.imports import ROOT, STAGES

HEAVY = (
    "torch", "transformers", "accelerate", "mlflow", "pandas", "pyarrow", "great_expectations", "dvc", "gradio",
    "fastapi", "openai", "PIL", "numpy",
)  # fmt: skip
# Asks each command for help in one process and says after which one a heavy package was there.
ASK = """
import importlib, json, sys
from typer.testing import CliRunner
found = {}
for line in sys.argv[2:]:
    name, *words = line.split()
    result = CliRunner().invoke(importlib.import_module(name).app, [*words, "--help"])
    found[line] = [result.exit_code, [h for h in sys.argv[1].split(",") if h in sys.modules]]
print(json.dumps(found))
"""
TOP: Any = typer.main.get_command(app)
SUBCOMMANDS = tuple(TOP.commands)


def test_help_loads_no_heavy_package():
    asked = ["minivlm.cli.main", *(f"minivlm.cli.main {name}" for name in SUBCOMMANDS)]
    asked += [f"pipelines.{stage}" for stage in STAGES]
    done = subprocess.run(
        [sys.executable, "-c", ASK, ",".join(HEAVY), *asked], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {line: [0, []] for line in asked}


@pytest.mark.parametrize("name", ["", *SUBCOMMANDS])
def test_help_fits_80_columns_and_cuts_nothing_off(name):
    asked = [*name.split(), "--help"]
    lines = CliRunner().invoke(app, asked, prog_name="minivlm", env={"COLUMNS": "80"}).output.splitlines()
    assert lines[0].startswith(f"Usage: minivlm {name}".rstrip())
    assert [line for line in lines if len(line) > 80] == []
    assert [line for line in lines[1:] if "..." in line or "\u2026" in line] == []


def test_help_answers_in_half_a_second():
    def seconds() -> float:
        """Processor time, so that a busy machine does not count."""
        command = [sys.executable, "-m", "minivlm.cli.main", "--help"]
        before = os.times()
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        after = os.times()
        return after.children_user - before.children_user + after.children_system - before.children_system

    assert min(seconds() for _ in range(3)) < 0.5
