"""Every command of the README, run in its order in a toy checkout, or accounted for by name."""

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.contract import documents
from tests.integration.checkout import Checkout

SECONDS = 900  # a command of the toy checkout; more is a hang
SILENT = 120  # until a server has said its address
RECIPE = "Train the original's recipe"
# (heading, command) → why it is not run here. What is not named is run as it stands.
NOT_RUN = {
    ("Two commands", "make test"): "runs the tests, this one among them",
    (RECIPE, "minivlm pin"): "asks a hub; tests/unit/cli/test_pin.py",
    (RECIPE, "dvc repro"): "hours on a GPU; the same command runs above",
    (
        RECIPE,
        "minivlm import-checkpoint sft_vlm_512.pth --vision clip-vit-base-patch16 --tokenizer minimind-tokenizer "
        "--out models/sft",
    ): "needs the original's files; tests/unit/model/minimind/test_importing.py",
    (RECIPE, "minivlm export models/sft --format minimind"): "what was imported; …/test_exporting.py",
}
# Commands that go on until they are stopped → what their output has to hold by then.
SERVING = {
    "minivlm ui": r"http://127\.0\.0\.1:\d+",
    "minivlm demo": r"http://127\.0\.0\.1:\d+",
    "minivlm serve": r"http://127\.0\.0\.1:\d+",
}
QUESTION = "图里有什么？"  # for commands that read questions from where they are typed


def commands() -> list[tuple[str, str]]:
    """(heading, command) of the README, in their order."""
    text, found = documents.read("README.md"), []
    for section in re.split(r"^(?=#+ )", text, flags=re.MULTILINE):
        heading = section.partition("\n")[0].lstrip("# ").strip()
        found += [(heading, line) for line in documents.lines_of(section)]
    return found


def test_what_is_not_run_stands_in_the_readme():
    assert set(NOT_RUN) <= set(commands())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A toy checkout whose .venv is the environment of the tests under another name: `make` finds it installed."""
    folder = tmp_path_factory.mktemp("readme")
    made = Checkout(folder, PYTHONPATH=str(folder / "minivlm" / "src"))
    environment = made.root / ".venv"
    environment.mkdir()
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", environment)
    for name in ("bin", "lib"):
        (environment / name).symlink_to(Path(sys.prefix) / name)
    made.run("bash", "-c", "touch .venv/.installed-$(pwd | cksum | cut -d' ' -f1)")
    return made


def ended(checkout: Checkout, line: str) -> str:
    """The output of a command that has to end well."""
    process = checkout.start("bash", "-c", f". .venv/bin/activate && {line}")
    try:
        output, errors = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, f"{line}\n{output[-4000:]}\n{errors[-4000:]}"
    return output


def served(checkout: Checkout, line: str, wanted: str) -> None:
    """A command that prints what is wanted and goes on; it is stopped then."""
    process = checkout.start("bash", "-c", f". .venv/bin/activate && exec {line} 2>&1")
    assert process.stdout is not None
    seen, end = "", time.monotonic() + SILENT
    try:
        while not re.search(wanted, seen):
            ready, _, _ = select.select([process.stdout], [], [], max(0, end - time.monotonic()))
            assert ready, f"{line} has not said {wanted} in {SILENT} s\n{seen}"
            new = os.read(process.stdout.fileno(), 65536).decode(errors="replace")
            assert new, f"{line} ended with {process.wait()}\n{seen}"
            seen += new
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


class Started:
    """As a Checkout, to start a command where no checkout is."""

    def start(self, *command):
        shell = ["bash", "-c", command[-1].replace(". .venv/bin/activate && ", "")]
        return subprocess.Popen(shell, stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_a_server_that_says_nothing_or_ends_does_not_hold_the_tests_up(monkeypatch):
    monkeypatch.setitem(globals(), "SILENT", 0.5)
    with pytest.raises(AssertionError, match=r"has not said http in 0\.5 s"):
        served(Started(), "sleep 60", "http")
    with pytest.raises(AssertionError, match="has not said http"):
        served(Started(), "bash -c 'printf unfinished; sleep 60'", "http")
    with pytest.raises(AssertionError, match="ended with 3"):
        served(Started(), "bash -c 'echo gone; exit 3'", "http")
    served(Started(), "bash -c 'printf http; sleep 60'", "http")


@pytest.mark.slow
def test_every_command_of_the_readme_runs(checkout):
    ran = {}
    for heading, line in commands():
        if (heading, line) in NOT_RUN:
            continue
        if line in SERVING:
            served(checkout, line, SERVING[line])
        elif line.startswith("minivlm chat "):
            assert ended(checkout, f"echo {QUESTION} | {line}").strip()
        else:
            ran[line] = ended(checkout, line)
    assert Path(checkout.root / "reports" / "index.html").stat().st_size > 100_000
    assert "learning_rate" in ran["minivlm experiments"]
    captioned = ran["minivlm caption data/eval_images"].splitlines()
    assert len(captioned) == 12 and all("\t" in line for line in captioned)
    assert "20 rows: 20 accepted, 0 rejected" in ran["minivlm check-data docs/examples/sft_data.jsonl"]
    # The last block goes back to what was committed, outputs and all.
    assert checkout.run("git", "status", "--porcelain", "--untracked-files=no") == ""
    assert "up to date" in checkout.run("dvc", "status")
