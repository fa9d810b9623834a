"""Inputs that are no longer what they were when a training began."""

import os
import pickle

import pytest

from minivlm.errors import UserError
from minivlm.training.inputs import InputFiles


@pytest.fixture
def place(tmp_path):
    (tmp_path / "tokens" / "deep").mkdir(parents=True)
    for name in ("tokens/a", "tokens/deep/b", "texts.jsonl"):
        (tmp_path / name).write_text("as it was")
    return tmp_path


def rewrite_in_place(path):
    before = path.stat()
    path.write_text("as it is!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def exchange(path):
    """Another file with the same size and time, as `cp --preserve` and a rename leave it."""
    other = path.with_name("other")
    other.write_text("as it is!")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("name", ["tokens/a", "tokens/deep/b", "texts.jsonl"])
@pytest.mark.parametrize("change", [rewrite_in_place, exchange, lambda path: path.unlink()])
def test_a_file_that_changes_or_goes_is_named(place, name, change):
    inputs = InputFiles("sft", [place / "tokens", place / "texts.jsonl"])
    inputs.check()
    change(place / name)
    for asked in (inputs, pickle.loads(pickle.dumps(inputs))):  # base's language model asks in another process
        with pytest.raises(UserError, match=f"{name}: changed while sft was reading it"):
            asked.check()


def test_a_file_that_comes_is_named(place):
    inputs = InputFiles("sft", [place / "tokens"])
    (place / "tokens" / "c").touch()
    with pytest.raises(UserError, match="tokens/c: changed while sft"):
        inputs.check()
