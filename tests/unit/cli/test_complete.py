"""What the shell completes, asked as the shells ask."""

import os
import subprocess
import sys

import pytest

from minivlm.config import load_params
from minivlm.paths import STAGES, Paths

MINIVLM = "from minivlm.cli.main import app; app(prog_name='minivlm')"


def ask(shell: str, line: str, **more: str) -> list[str]:
    """The completions of a command line, one each."""
    words = line.split(" ")
    environment = {
        "_MINIVLM_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-c", MINIVLM], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


PROFILES = sorted(path.stem for path in Paths().profiles.glob("*.yaml"))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("minivlm prof", ["profile"]),
        ("minivlm profile ", PROFILES),
        ("minivlm estimate --profile ti", ["tiny"]),
        ("minivlm estimate --stage ", list(STAGES)),
        ("minivlm estimate --rows p", ["pretrain="]),
        ("minivlm pin --section ", ["download", "base"]),
        ("minivlm params se", ["seed"]),
        ("minivlm params sft.le", ["sft.learning_rate"]),
        ("minivlm params base.llm.hea", ["base.llm.heads"]),
    ],
)
def test_names_are_completed(line, offered):
    assert ask("bash", line) == offered


def test_a_section_comes_with_its_keys_so_that_no_space_follows_it():
    sft = load_params(Paths().params).sft.model_dump()
    assert ask("bash", "minivlm params sf") == ["sft", *(f"sft.{key}" for key in sft)]


def test_zsh_and_fish_are_answered_in_their_own_form():
    answer = "".join(ask("zsh", "minivlm profile "))
    assert answer.startswith("_arguments") and all(f'"{name}"' in answer for name in PROFILES)
    assert ask("fish", "minivlm profile ", _TYPER_COMPLETE_FISH_ACTION="get-args") == PROFILES


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell):
    script = "\n".join(ask(shell, "", _MINIVLM_COMPLETE=f"source_{shell}"))
    assert f"complete_{shell}" in script and "minivlm" in script


def test_bash_itself_completes(tmp_path):
    """The script, loaded and called as a press of the tabulator calls it."""
    (tmp_path / "minivlm").write_text(f"#!{sys.executable}\n{MINIVLM}\n")
    (tmp_path / "minivlm").chmod(0o755)
    pressed = (
        'eval "$(_MINIVLM_COMPLETE=source_bash minivlm)"; '
        "COMP_WORDS=(minivlm profile t); COMP_CWORD=2; _minivlm_completion minivlm; echo ${COMPREPLY[@]}"
    )
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", pressed], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "tiny\n"
