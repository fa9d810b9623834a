"""The run before this one: the copy that the page kept, else what the last commit has."""

import subprocess

import pytest

from minivlm.evaluation.last_run import last_loss
from minivlm.paths import Paths

A, B, C = ("step,loss\n1,3.0\n", "step,loss\n1,2.0\n", "step,loss\n1,1.0\n")


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path)


def commit(root, text):
    file = root / "reports" / "sft" / "loss.csv"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *arguments], cwd=root, check=True)


def test_the_first_run_has_none_and_the_second_has_the_first(paths):
    assert last_loss(paths, "sft", A) is None
    assert last_loss(paths, "sft", B).text == A
    assert last_loss(paths, "sft", C).text == B


def test_showing_the_same_run_again_keeps_its_last(paths):
    for text in (A, B, B, B):
        last = last_loss(paths, "sft", text)
    assert last == (A, "shown before in this checkout")


def test_the_same_result_again_is_no_other_run(paths):
    assert last_loss(paths, "sft", A) is None
    assert last_loss(paths, "sft", A) is None


def test_stages_have_runs_of_their_own(paths):
    assert last_loss(paths, "pretrain", A) is None
    assert last_loss(paths, "sft", B) is None


def test_in_a_fresh_checkout_the_committed_curve_is_the_last_where_it_differs(paths):
    commit(paths.root, A)
    assert last_loss(paths, "sft", A) is None
    (paths.state / "report" / "sft.csv").unlink()
    last = last_loss(paths, "sft", B)
    assert last.text == A and last.which.startswith("as committed in ")


def test_a_run_that_was_shown_is_later_than_the_commit(paths):
    commit(paths.root, A)
    last_loss(paths, "sft", B)
    assert last_loss(paths, "sft", C).text == B
