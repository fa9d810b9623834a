"""Inputs that are not what they were when the training began to read them."""

import os

import pytest

from minivlm.errors import UserError
from minivlm.training.inputs import InputFiles


def rewrite(folder):
    (folder / "tokens.bin").write_bytes(b"cba")


def replace(folder):
    """By a file of the same size and time."""
    old = folder / "tokens.bin"
    time = old.stat().st_mtime_ns
    (folder / "new").write_bytes(b"cba")
    os.utime(folder / "new", ns=(time, time))
    (folder / "new").replace(old)


def add(folder):
    (folder / "more" / "new.bin").write_bytes(b"")


def remove(folder):
    (folder / "more" / "meta.json").unlink()


@pytest.mark.parametrize(
    ("change", "named"),
    [(rewrite, "tokens.bin"), (replace, "tokens.bin"), (add, "more/new.bin"), (remove, "more/meta.json")],
)
def test_a_change_is_an_error_that_names_the_file(tmp_path, change, named):
    for name in ("one", "two/more"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "one" / "config.json").write_text("{}")
    (tmp_path / "two" / "tokens.bin").write_bytes(b"abc")
    (tmp_path / "two" / "more" / "meta.json").write_text("{}")
    os.utime(tmp_path / "two" / "tokens.bin", times=(1_000_000, 1_000_000))
    inputs = InputFiles("sft", [tmp_path / "one", tmp_path / "two"])
    inputs.check()
    change(tmp_path / "two")
    with pytest.raises(UserError, match=f"two/{named}: changed while sft was reading it"):
        inputs.check()
