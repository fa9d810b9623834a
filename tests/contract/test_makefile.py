"""`make` says in one line what is missing, and makes the environment anew when it is stale."""

import os
import shutil
import subprocess

import pytest

from tests.contract.imports import ROOT

# Stands for an interpreter: "-m venv" makes an environment whose python writes down how it was called.
PYTHON = """#!/bin/sh
if [ "$1" = --version ]; then echo "Python 3.11.0"; fi
if [ "$2" = venv ]; then
  mkdir -p .venv/bin
  printf '#!/bin/sh\\necho "$@" >> calls\\n' > .venv/bin/python
  chmod +x .venv/bin/python
fi
"""


@pytest.fixture
def make(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy2(ROOT / name, tmp_path / name)
    (tmp_path / "fake").write_text(PYTHON)
    (tmp_path / "fake").chmod(0o755)

    def run(*arguments: str, folder=tmp_path) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "PYTHON")}
        return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)

    run.folder = tmp_path
    return run


@pytest.mark.parametrize("python", ["./no-such-python", "false"])
def test_an_unfit_python_is_said_in_one_line(make, python):
    done = make("install", f"PYTHON={python}")
    errors = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode and len(errors) == 1
    assert errors[0].startswith(f"error: no Python 3.11 or newer with venv (tried: {python})")
    assert not (make.folder / ".venv").exists()


def test_it_installs_once_and_again_only_after_a_change_of_the_pins(make):
    def installs() -> int:
        return (make.folder / "calls").read_text().count("pip install")

    assert make("install", "PYTHON=./fake").returncode == 0
    make("install", "PYTHON=./fake")
    assert installs() == 1
    later = (make.folder / ".venv/bin/python").stat().st_mtime + 10
    os.utime(make.folder / "constraints.txt", (later, later))
    make("install", "PYTHON=./fake")
    assert installs() == 2


def test_a_moved_environment_is_made_anew(make):
    assert make("install", "PYTHON=./fake").returncode == 0
    moved = make.folder.with_name("moved")
    shutil.copytree(make.folder, moved)
    assert "making .venv" in make("install", "PYTHON=./fake", folder=moved).stdout


def test_it_names_no_package_index():
    for name in ("Makefile", "pyproject.toml", "constraints.txt", ".ci/run"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not {"--index-url", "--extra-index-url", "--find-links"} & set(text.replace("=", " ").split())
