"""One file over HTTP, going on where an earlier try stopped, even one that was killed.

huggingface_hub 2.4 keeps nothing of an interrupted download: its partial file has a random name and is removed on
any failure, and Xet transfers, which mirrors do not speak, start anew too. So the bytes are fetched here, through
its session and with its headers and errors, into a partial file whose name is known, and enter its cache when size
and sha256 are right.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from minivlm.errors import UserError
from minivlm.files import sha256_file
from minivlm.hub.patience import NotThereError, Patience, PlaceError, Stopped, refuse_page
from minivlm.hub.pins import PinnedFile
from minivlm.hub.places import Place

if TYPE_CHECKING:
    import httpx2

_NEWS = 1 << 20  # bytes beyond the farthest point so far that count as progress
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class WrongContentError(PlaceError):
    """What a place sends is not the pinned file."""


def bring(
    place: Place, file: PinnedFile, partial: Path, arrived: Callable[[int], None], stop: threading.Event
) -> None:
    """Complete `partial` from `place`, so that it has the pinned size and sha256, and sync it to disk.

    `arrived` is told of bytes that came, and with a negative number of bytes that have to come again. A wrong
    content is fetched once more from its start, because an old beginning may be at fault. PlaceError when the
    place cannot give the file, UserError when the disk cannot take it.
    """
    for again in (False, True):
        try:
            _complete(place, file, partial, arrived, stop)
            found = sha256_file(partial)
            if found != file.sha256:
                raise WrongContentError(f"sends other bytes: sha256 {found}, pinned is {file.sha256}")
            return
        except WrongContentError:
            if partial.exists():
                arrived(-partial.stat().st_size)
                partial.unlink()
            if again:
                raise


def _complete(
    place: Place, file: PinnedFile, partial: Path, arrived: Callable[[int], None], stop: threading.Event
) -> None:
    addresses = place.addresses(file)
    for number, address in enumerate(addresses):
        try:
            return _Transfer(place, address, file, partial, arrived, stop).run()
        except NotThereError:
            if number + 1 == len(addresses):
                raise


class _Transfer:
    """A file from one address, over as many requests as it takes."""

    def __init__(
        self,
        place: Place,
        address: str,
        file: PinnedFile,
        partial: Path,
        arrived: Callable[[int], None],
        stop: threading.Event,
    ) -> None:
        self._place, self._address, self._file, self._partial = place, address, file, partial
        self._arrived, self._stop = arrived, stop
        self._patience = Patience(place, place.repository(file.pin), file.pin.kind, file.path, stop)
        self._farthest = 0

    def run(self) -> None:
        """Request what is missing until nothing is."""
        self._partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._partial.open("ab") as stream:
                self._farthest = stream.tell()
                if stream.tell() > self._file.size:
                    self._cut(stream, 0)
                while stream.tell() < self._file.size:
                    self._patience.attempt(lambda: self._request(stream))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise UserError(
                    f"{self._partial.parent}: the disk is full; free some space or set HF_HOME to a larger one, "
                    "what has arrived is kept"
                ) from None
            raise UserError(f"{self._partial}: {error.strerror or error}") from None
        except (PlaceError, Stopped):
            if self._partial.stat().st_size == 0:  # nothing to go on from
                self._partial.unlink()
            raise

    def _request(self, stream: BinaryIO) -> None:
        """One request for the rest."""
        import httpx2
        from huggingface_hub import constants, get_session, hf_raise_for_status

        start = stream.tell()
        headers = {**self._place.headers(), "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        wait = httpx2.Timeout(constants.HF_HUB_DOWNLOAD_TIMEOUT)
        with get_session().stream("GET", self._address, headers=headers, timeout=wait) as response:
            if response.status_code == 416:  # the partial file is longer than what is there
                raise WrongContentError(f"has less than {start} bytes, pinned are {self._file.size}")
            hf_raise_for_status(response)
            refuse_page(response, self._file.path)
            self._place.reached = True
            if start and response.status_code != 206:
                self._cut(stream, 0)  # the server knows no ranges: all of it comes
            self._check_length(response, stream.tell())
            self._read(response, stream)

    def _check_length(self, response: httpx2.Response, start: int) -> None:
        """WrongContentError if the server announces another size than the pinned one."""
        size = self._file.size
        if start:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if not match or int(match[1]) != start or match[3] not in (str(size), "*"):
                said = response.headers.get("Content-Range", "nothing")
                raise WrongContentError(f"answers {said!r} when asked for byte {start} of {size}")
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and "Content-Encoding" not in response.headers and start + int(length) != size:
            raise WrongContentError(f"has {start + int(length)} bytes, pinned are {size}")

    def _read(self, response: httpx2.Response, stream: BinaryIO) -> None:
        for chunk in response.iter_bytes():
            if self._stop.is_set():
                raise Stopped
            if stream.tell() + len(chunk) > self._file.size:
                raise WrongContentError(f"sends more than the {self._file.size} bytes that are pinned")
            stream.write(chunk)
            self._arrived(len(chunk))
            if stream.tell() >= self._farthest + _NEWS:
                self._farthest = stream.tell()
                self._patience.renew()
        if stream.tell() < self._file.size:
            self._patience.wait(f"ends after {stream.tell()} of {self._file.size} bytes")

    def _cut(self, stream: BinaryIO, length: int) -> None:
        self._arrived(length - stream.tell())
        stream.seek(length)
        stream.truncate()
