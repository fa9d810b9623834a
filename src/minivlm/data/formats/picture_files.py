"""A picture by the name that a row gives it, from a folder; what a zip has in common with it.

A name is a path below the folder, or agrees with the path of one file alone as far as both go. Names that lead out
of the folder, by `..`, by an absolute path or through a link, are faults, whatever they lead to.
"""

from __future__ import annotations

import ntpath
import os
import posixpath
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from minivlm.data.strict_json import shown
from minivlm.data.validation.picture import MAX_PICTURE_BYTES

_MACOS = "__MACOSX/"  # what macOS puts into a zip beside the files; no pictures
TOO_LARGE = f"larger than {MAX_PICTURE_BYTES:,} bytes"


class PictureFileError(Exception):
    """The picture cannot be had; the message completes `picture 'a.jpg': ...`."""


class PictureFiles(Protocol):
    """Where pictures are found by name; a context manager."""

    def read(self, name: str) -> bytes:
        """The bytes of a picture; PictureFileError says why there are none."""

    def close(self) -> None:
        """Let go of what is open."""


class NameIndex:
    """File names by their path and by how it ends.

    A row may say less than a file's path (a base name, the last folders alone) or more (folders that lie around
    the pictures' folder), never something else: `train/1.jpg` is not `val/1.jpg`, whatever else is there.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._paths: dict[str, str] = {}
        self._ends: dict[str, list[str]] = {}  # base name, and folder with base name → paths
        self._twice: set[str] = set()
        for name in names:
            path = posixpath.normpath(name.replace("\\", "/"))
            if path.startswith(_MACOS):
                continue
            if path in self._paths:
                self._twice.add(path)
                continue
            self._paths[path] = name
            for end in {posixpath.basename(path), _last_two(path)}:
                self._ends.setdefault(end, []).append(path)
        tops = {path.partition("/")[0] for path in self._paths}
        self._top = tops.pop() + "/" if len(tops) == 1 else ""  # the one folder that all lie in

    def find(self, path: str, where: str) -> str:
        """The file's own name for a relative path; PictureFileError when there is none, or more than one."""
        found = [each for each in (path, self._top + path) if each in self._paths][:1] or self._alike(path)
        if not found:
            raise PictureFileError(f"not in {where}")
        if len(found) > 1:
            raise PictureFileError(f"not in {where} at this path, and several files there could be meant")
        if found[0] in self._twice:
            raise PictureFileError(f"stands twice in {where}")
        return self._paths[found[0]]

    def _alike(self, path: str) -> list[str]:
        """The paths of which `path` is the end, or which are the end of `path`."""
        alike = [
            each
            for each in self._ends.get(_last_two(path), [])
            if f"/{each}".endswith(f"/{path}") or path.endswith(f"/{each}")
        ]
        base = posixpath.basename(path)
        return alike + ([base] if base != path and base in self._paths else [])


def _last_two(path: str) -> str:
    return "/".join(path.rsplit("/", 2)[-2:])


def relative_path(name: str) -> str:
    """A row's name of a picture as a normal relative path; PictureFileError when it is none."""
    path = name.replace("\\", "/")
    if "\0" in path or not path.strip("/. "):
        raise PictureFileError("no file name")
    if path.startswith("/") or ntpath.splitdrive(path)[0]:
        raise PictureFileError("an absolute path; a name below the pictures' folder is needed")
    path = posixpath.normpath(path)
    if path.split("/")[0] == "..":
        raise PictureFileError("leads out of the pictures' folder")
    return path


class PictureFolder:
    """Pictures in a folder; see `PictureFiles`."""

    _where = "the folder of pictures"

    def __init__(self, root: Path) -> None:
        self._root = root
        self._real = os.path.realpath(root)
        self._index: NameIndex | None = None

    def read(self, name: str) -> bytes:
        """The bytes of a picture; PictureFileError says why there are none."""
        path = relative_path(name)
        try:
            place = self._root / path
            if not os.path.lexists(place):
                place = self._root / self._listed().find(path, self._where)
            real = os.path.realpath(place)
            if os.path.commonpath([self._real, real]) != self._real:
                raise PictureFileError("a link that leads out of the pictures' folder")
            status = os.stat(real)
            if not stat.S_ISREG(status.st_mode):  # a named pipe would be waited for without end
                raise PictureFileError("no file, but a folder or a device")
            if status.st_size > MAX_PICTURE_BYTES:
                raise PictureFileError(TOO_LARGE)
            return Path(real).read_bytes()
        except FileNotFoundError:
            raise PictureFileError("a link that leads nowhere") from None
        except (OSError, ValueError) as error:  # ValueError: a name that the system's encoding cannot write
            reason = error.strerror if isinstance(error, OSError) else "no file name"
            raise PictureFileError(f"cannot be read ({reason})") from None

    def close(self) -> None:
        """Nothing is open."""

    def _listed(self) -> NameIndex:
        """All names below the folder; made when a name is first not found as it stands."""
        if self._index is None:
            names = [
                os.path.relpath(os.path.join(folder, file), self._root)
                for folder, _, files in os.walk(self._root)
                for file in files
            ]
            self._index = NameIndex(sorted(names))
        return self._index


def fault_of(number: int, name: str, fault: PictureFileError) -> str:
    """The fault of one picture of a row, with its number and its name."""
    return f"picture {number} ({shown(name)}): {fault}"
