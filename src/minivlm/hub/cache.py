"""huggingface_hub's standard cache, as folders: what is there, what is whole, where a new file goes.

A repository's folder holds `blobs/` (contents, a large file's under its sha256), `snapshots/<revision>/` (links to
them by name) and `.locks/` beside it. Files that any program fetched are found there, and files fetched here are
found by any program. This project adds `pinned/<hash of the pins>/`: links to the pinned files and to nothing
else, because a snapshot may hold more (another program's weights, a chat template) and a model directory means all
that is in it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from minivlm.errors import UserError
from minivlm.files import sha256_file
from minivlm.hub.patience import Stopped
from minivlm.hub.pins import Pin, PinnedFile

_LOCK_SECONDS = 0.5  # between two looks at whether to stop


def cache_folder() -> Path:
    """The cache by HF_HUB_CACHE, HF_HOME or XDG_CACHE_HOME, as huggingface_hub reads them, at call time."""
    environment = os.environ
    default = os.path.join(environment.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    home = os.path.join(environment.get("HF_HOME") or default, "hub")
    place = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE") or home
    return Path(os.path.expandvars(os.path.expanduser(place))).absolute()


class Cache:
    """The cache below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def repository(self, pin: Pin) -> Path:
        """The folder of a repository."""
        return self.root / "--".join([f"{pin.kind}s", *pin.repo.split("/")])

    def blob(self, file: PinnedFile) -> Path:
        """Where a file's content goes."""
        return self.repository(file.pin) / "blobs" / file.sha256

    def partial(self, file: PinnedFile) -> Path:
        """Where a file's content grows; the next try goes on from what is there."""
        return self.blob(file).with_name(f"{file.sha256}.incomplete")

    def snapshot(self, file: PinnedFile) -> Path:
        """Where programs look a file up: by revision and path."""
        return self.repository(file.pin) / "snapshots" / file.revision / file.path

    def pinned(self, pin: Pin) -> Path:
        """The folder that holds what is pinned and nothing else."""
        digest = hashlib.sha256()
        for path, (_, sha256) in sorted(pin.files.items()):
            digest.update(f"{path}\0{sha256}\n".encode())
        return self.repository(pin) / "pinned" / digest.hexdigest()[:16]

    @contextmanager
    def lock(self, file: PinnedFile, stop: threading.Event) -> Iterator[None]:
        """The lock that huggingface_hub itself takes for this content: one process fetches, the others wait.

        Stopped when all is to stop before it is this process's turn.
        """
        from filelock import Timeout
        from huggingface_hub.utils import WeakFileLock

        folder = self.root / ".locks" / self.repository(file.pin).name
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(WeakFileLock(folder / f"{file.sha256}.lock", timeout=_LOCK_SECONDS))
                    break
                except Timeout:
                    if stop.is_set():
                        raise Stopped from None
            yield

    def find(self, file: PinnedFile) -> Path | None:
        """The file's content if it is in the cache, whole or not."""
        return next((path for path in (self.snapshot(file), self.blob(file)) if path.is_file()), None)

    def check(self, file: PinnedFile) -> str | None:
        """None if the file is in the cache and whole, else what is wrong with it.

        UserError when the cached content is whole by its own name: then it is the pin that is wrong.
        """
        try:
            return self._check(file)
        except FileNotFoundError:  # another process discards it
            return "missing"

    def _check(self, file: PinnedFile) -> str | None:
        path = self.find(file)
        if path is None:
            return "missing"
        size = path.stat().st_size
        found = sha256_file(path) if size == file.size else None
        if found == file.sha256:
            return None
        content = path.resolve()
        if content.name in (found or sha256_file(content), _git_blob(content)):
            raise UserError(
                f"{file}: pinned are {file.size} bytes with sha256 {file.sha256}, but at this revision the file "
                f"has {size} bytes with sha256 {found or sha256_file(content)}; `minivlm pin` pins what is there"
            )
        return f"damaged: {size} bytes of {file.size}" if found is None else f"damaged: sha256 {found}"

    def discard(self, file: PinnedFile) -> None:
        """Remove a damaged file: its name and, below this repository, its content. Only for who holds its lock."""
        for path in (self.snapshot(file), self.blob(file)):
            content = path.resolve()
            if content.is_relative_to(self.repository(file.pin).resolve() / "blobs"):
                content.unlink(missing_ok=True)
            path.unlink(missing_ok=True)

    def name(self, file: PinnedFile) -> None:
        """Give a whole content its name in the snapshot."""
        pointer = self.snapshot(file)
        if not pointer.is_file():
            _link(self.blob(file), pointer)

    def expose(self, pin: Pin) -> Path:
        """Make the folder of exactly the pinned files, all of which are in the cache; returns it.

        UserError when one is not there any more: other programs may clear the cache at any time.
        """
        folder = self.pinned(pin)
        for path, (size, sha256) in pin.files.items():
            file = PinnedFile(pin, path, size, sha256)
            content = self.find(file)
            if content is None:
                raise UserError(
                    f"{file}: something else has removed it from {self.root} meanwhile; run this again"
                )
            _link(content.resolve(), folder / path)
        return folder


def _git_blob(content: Path) -> str:
    """The name that git, and huggingface_hub with it, gives the content of a small file."""
    if len(content.name) != 40:
        return ""
    data = content.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _link(content: Path, name: Path) -> None:
    """`name` for `content`: a relative link as huggingface_hub makes it, a copy where links are not to be had.

    An old name is replaced; two processes may do this at once.
    """
    name.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(content, name.parent.resolve())
    if name.is_symlink() and os.readlink(name) == target:
        return
    temporary = name.with_name(f".{name.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(target)
    except OSError:
        shutil.copyfile(content, temporary)
    temporary.replace(name)
