"""Inputs that change while a training reads them are noticed before anything of it is saved."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from minivlm.errors import UserError


class InputFiles:
    """Some files, and those of some directories, as they are now: size, time and identity of each."""

    def __init__(self, stage: str, places: Iterable[Path]) -> None:
        self._stage, self._places = stage, tuple(places)
        self._seen = self._look()

    def check(self) -> None:
        """UserError when one of them is not what it was."""
        now = self._look()
        changed = sorted(path for path in now.keys() | self._seen.keys() if now.get(path) != self._seen.get(path))
        if changed:
            raise UserError(
                f"{changed[0]}: changed while {self._stage} was reading it, and nothing was saved since; run it "
                "again: what is there now is another training"
            )

    def _look(self) -> dict[Path, tuple[int, int, int]]:
        found = {}
        for place in self._places:
            for path in (place,) if place.is_file() else place.rglob("*"):
                status = path.stat()
                if path.is_file():
                    found[path] = (status.st_size, status.st_mtime_ns, status.st_ino)
        return found
