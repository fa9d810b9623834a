"""Files are written whole or not at all."""

import errno
import json
import resource
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from minivlm import files
from minivlm.errors import UserError

NOISE = np.random.default_rng(0)
WRITERS = {
    "Python": lambda path: path.write_text("x" * 10_000),
    "safetensors": lambda path: save_file({"weight": torch.zeros(10_000)}, path),
    "tokenizers": lambda path: Tokenizer(WordLevel({str(i): i for i in range(2000)}, "0")).save(str(path)),
    "NumPy": lambda path: np.zeros(10_000).tofile(path),
    "Arrow": lambda path: pq.write_table(pa.table({"a": NOISE.random(10_000)}), path),
    "Pillow": lambda path: Image.fromarray(NOISE.integers(0, 255, (100, 100), np.uint8)).save(path, "PNG"),
}


@contextmanager
def no_room():
    """No file can grow beyond a thousand bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, writer):
    path = tmp_path / "last"
    path.write_text("old")
    with pytest.raises(OSError, match="last") as caught, no_room(), files.atomic_path(path) as temporary:
        WRITERS[writer](temporary)
    assert caught.value.filename == str(path) and caught.value.strerror
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("last", "old")]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_names_the_directory_and_leaves_the_old_one(tmp_path, writer):
    path = tmp_path / "model"
    path.mkdir()
    with pytest.raises(OSError, match="model") as caught, no_room(), files.atomic_directory(path) as temporary:
        WRITERS[writer](temporary / "part")
    assert caught.value.filename == str(path) and caught.value.strerror
    assert list(tmp_path.rglob("*")) == [path]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ECONNRESET, "Connection reset by peer"),
        OSError("of no file"),
        UserError("a line of its own about it (os error 28)"),
        ValueError("a bug"),
        PermissionError(errno.EACCES, "Permission denied", "elsewhere"),
        OSError(errno.ENOSPC, "No space left on device", "elsewhere"),
    ],
)
def test_an_error_of_another_kind_or_with_a_name_stays_what_it_is(tmp_path, error):
    with pytest.raises(type(error)) as caught, files.atomic_path(tmp_path / "x"):
        raise error
    assert caught.value is error


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "metrics.json"
    files.write_json(path, {"loss": 1})
    with pytest.raises(ValueError, match="stop"), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ValueError("stop")
    assert files.read_json(path) == {"loss": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_directory_and_nothing_else(tmp_path):
    path = tmp_path / "model"
    with files.atomic_directory(path) as temporary:
        (temporary / "config.json").write_text("old")
    with pytest.raises(ValueError, match="stop"), files.atomic_directory(path) as temporary:
        (temporary / "config.json").write_text("new")
        raise ValueError("stop")
    assert (path / "config.json").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_takes_the_place_of_the_old_one_whole(tmp_path):
    path = tmp_path / "model"
    for name in ("old", "new"):
        with files.atomic_directory(path) as temporary:
            (temporary / name).write_text(name)
    assert [p.name for p in path.iterdir()] == ["new"]


def test_files_are_readable_by_others_as_usual(tmp_path):
    files.write_text(tmp_path / "a" / "b.txt", "x")
    assert (tmp_path / "a" / "b.txt").stat().st_mode & 0o777 == 0o644


def test_text_is_utf_8_with_lf(tmp_path):
    files.write_text(tmp_path / "x", "一\n二\n")
    assert (tmp_path / "x").read_bytes() == "一\n二\n".encode()


def test_json_is_for_people_and_git(tmp_path):
    files.write_json(tmp_path / "x", {"b": "天空", "a": 0.5})
    assert (tmp_path / "x").read_text(encoding="utf-8") == '{\n  "b": "天空",\n  "a": 0.5\n}\n'


def test_a_figure_that_is_no_number_is_not_written(tmp_path):
    path = tmp_path / "metrics.json"
    files.write_json(path, {"loss": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"loss": float("nan")})
    assert json.loads(path.read_text()) == {"loss": 1}


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert files.sha256_file(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256_tree(tmp_path / "x") == files.sha256_file(tmp_path / "x")


def test_the_hash_of_a_directory_sees_names_and_contents(tmp_path):
    def tree(name: str, entries: dict[str, str]) -> str:
        for relative, text in entries.items():
            files.write_text(tmp_path / name / relative, text)
        return files.sha256_tree(tmp_path / name)

    first = tree("first", {"a": "1", "sub/b": "2"})
    assert first == tree("same", {"sub/b": "2", "a": "1"})
    assert first != tree("renamed", {"a": "1", "sub/c": "2"})
    assert first != tree("changed", {"a": "1", "sub/b": "3"})
