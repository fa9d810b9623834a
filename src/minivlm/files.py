"""Files written whole or not at all, and their hashes."""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minivlm.errors import UserError

_CHUNK = 1 << 20
_UNFINISHED = re.compile(r"\..+\.[a-z0-9_]{8}")  # .model.x1y2z3w4, of tempfile
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # no room, none of one's own, a file too large


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; renamed to it on success, removed on failure.

    A reader sees the old file or the new one, never half of one. The data is synced to disk before the
    rename, so that a power cut does not leave an empty file under the final name. OSError with the name of `path`
    when the disk is full, whatever writes there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with _named_when_full(path):
            yield temporary
            temporary.chmod(0o644)
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def full_disk(error: BaseException) -> int | None:
    """The system's number (errno) where `error` says that there is no room to write; None for another error.

    What is written in Rust (safetensors, tokenizers) raises an exception of its own, with the number at its end;
    NumPy counts what it could not write.
    """
    if isinstance(error, UserError):
        return None
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := re.search(r"\(os error (\d+)\)$", str(error).strip())):
        number = int(found[1])
    if isinstance(error, OSError) and re.fullmatch(r"\d+ requested and \d+ written", str(error)):
        number = errno.ENOSPC
    return number if number in _FULL else None


@contextmanager
def _named_when_full(path: Path) -> Iterator[None]:
    """An error that says that the disk is full names `path`: of what is written to a stream it has no name."""
    try:
        yield
    except Exception as error:
        number = full_disk(error)
        if number is None or (isinstance(error, OSError) and error.filename is not None):
            raise
        raise OSError(number, os.strerror(number), str(path)) from None


def remove_unfinished(paths: Iterable[Path]) -> None:
    """Remove those of `paths` that a killed process was writing, as the two functions above name them.

    Nobody may be writing there.
    """
    for path in paths:
        if not _UNFINISHED.fullmatch(path.name):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have a file, or the names in a directory, on the disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """A temporary directory beside `path` that takes its place on success; an old one is removed first.

    OSError with the name of `path` when the disk is full, whatever writes there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        with _named_when_full(path):
            yield temporary
        temporary.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with LF line ends, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write JSON that a person can read and git can diff: indented, keys in the order given, no NaN."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a UTF-8 JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256_file(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_tree(path: Path) -> str:
    """One sha256 for a file or for a directory's relative names and contents, in sorted order."""
    if path.is_file():
        return sha256_file(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()
