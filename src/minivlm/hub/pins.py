"""Pins: the files of one hub repository at one commit, each with its size and sha256.

params.yaml → pins → `fetch`. A pin says what has to arrive, byte for byte; so any place that has the bytes will
do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from minivlm.errors import UserError

Kind = Literal["model", "dataset"]

REVISION = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


class Pin(NamedTuple):
    """One repository at one commit."""

    name: str  # the parameter that it comes from, for messages
    repo: str  # owner/name on Hugging Face
    kind: Kind
    revision: str | None  # 40 hex digits
    files: Mapping[str, tuple[int, str]]  # path in the repository → bytes, sha256
    modelscope: str | None = None  # owner/name on ModelScope, where that differs


@dataclass(frozen=True, eq=False)
class PinnedFile:
    """One file of a pin."""

    pin: Pin
    path: str
    size: int
    sha256: str

    @property
    def revision(self) -> str:
        """The commit, of a pin that `pinned_files` has accepted."""
        assert self.pin.revision is not None
        return self.pin.revision

    def __str__(self) -> str:
        return f"{self.pin.name}: {self.path} of {self.pin.repo}"


def pinned_files(pins: Sequence[Pin]) -> list[PinnedFile]:
    """Every file of `pins`, each once.

    UserError for a pin without revision or files, a revision or hash that is none, a path that would leave its
    folder, and for two pins that say different things of one file.
    """
    files: dict[tuple[str, str, str | None, str], PinnedFile] = {}
    for pin in pins:
        _check(pin)
        for path, (size, sha256) in pin.files.items():
            _check_file(pin, path, size, sha256)
            file = PinnedFile(pin, path, size, sha256)
            other = files.setdefault((pin.kind, pin.repo, pin.revision, path), file)
            if (other.size, other.sha256) != (size, sha256):
                raise UserError(f"{pin.name} and {other.pin.name} pin {path} of {pin.repo} differently")
    return list(files.values())


def _check(pin: Pin) -> None:
    again = "`minivlm pin` fills it in where there is a network"
    if not _REPOSITORY.fullmatch(pin.repo) or ".." in pin.repo or "--" in pin.repo:
        raise UserError(f"{pin.name}.repo: {pin.repo!r} is no owner/name of a repository")
    if not pin.revision:
        raise UserError(f"{pin.name}.revision: {pin.repo} is not pinned; {again}")
    if not REVISION.fullmatch(pin.revision):
        raise UserError(f"{pin.name}.revision: {pin.revision!r} is no commit of 40 hex digits; {again}")
    if not pin.files:
        raise UserError(f"{pin.name}.files: no file of {pin.repo} is pinned; {again}")


def _check_file(pin: Pin, path: str, size: int, sha256: str) -> None:
    # Slashes alone separate in a repository; a backslash or a drive would lead elsewhere on Windows.
    strange = any(part in ("", ".", "..") for part in path.split("/")) or any(sign in path for sign in "\\:\0")
    if strange:
        raise UserError(f"{pin.name}.files: {path!r} is no path inside a repository")
    if size < 0 or not SHA256.fullmatch(sha256):
        raise UserError(f"{pin.name}.files: {path} needs a size in bytes and a sha256 of 64 hex digits")
