"""The command surface: quick help without heavy packages, and a README whose commands exist."""

import importlib
import json
import os
import re
import subprocess
import sys

import pytest
import typer.main

from minivlm.cli.main import app
from tests.contract.imports import ROOT, STAGES

HEAVY = ("torch", "transformers", "accelerate", "mlflow", "pandas", "pyarrow", "great_expectations", "dvc")
# Asks each command for help in one process and says after which one a heavy package was there.
ASK = """
import importlib, json, sys
from typer.testing import CliRunner
found = {}
for name in sys.argv[2:]:
    result = CliRunner().invoke(importlib.import_module(name).app, ["--help"])
    found[name] = [result.exit_code, [h for h in sys.argv[1].split(",") if h in sys.modules]]
print(json.dumps(found))
"""


def test_help_loads_no_heavy_package():
    commands = ["minivlm.cli.main", *(f"pipelines.{stage}" for stage in STAGES)]
    asked = [name for name in commands if (ROOT / f"{name.replace('.', '/')}.py").exists() or "cli" in name]
    done = subprocess.run(
        [sys.executable, "-c", ASK, ",".join(HEAVY), *asked], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {name: [0, []] for name in asked}


def test_help_answers_in_half_a_second():
    def seconds() -> float:
        """Processor time, so that a busy machine does not count."""
        command = [sys.executable, "-m", "minivlm.cli.main", "--help"]
        before = os.times()
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        after = os.times()
        return after.children_user - before.children_user + after.children_system - before.children_system

    assert min(seconds() for _ in range(3)) < 0.5


def snippets(name: str) -> list[str]:
    """The command lines of a document's ```bash blocks, without comments."""
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.split("  #")[0].split(" && ") for block in blocks for line in block.splitlines()]
    return [part.strip() for parts in lines for part in parts if part.strip() and not part.strip().startswith("#")]


DOCUMENTS = sorted(path.name for path in ROOT.glob("README*.md"))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_of_the_readme_exist(name):
    parser = importlib.import_module("dvc.cli.parser").get_main_parser()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    subcommands = set(typer.main.get_command(app).commands)
    dvc = next(action.choices for action in parser._subparsers._actions if action.dest == "cmd")
    known = {"make": targets, "minivlm": subcommands, "dvc": set(dvc)}
    lines = snippets(name)
    assert lines
    for line in lines:
        words = line.split()
        if words[0] in known and len(words) > 1:
            assert words[1] in known[words[0]], line
        elif words[:2] == ["python", "-m"]:
            assert (ROOT / f"{words[2].replace('.', '/')}.py").exists(), line
        else:
            assert words[0] in {"git", "cd", "."}, f"unknown command: {line}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_two_commands_come_first(name):
    assert snippets(name)[:2] == ["make repro", "make test"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_the_readme_links_to_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (ROOT / link).exists()] == []
