"""Pictures in a zip, read from it member by member: nothing is unpacked to disk."""

from __future__ import annotations

import lzma
import stat
import struct
import zipfile
import zlib
from pathlib import Path

from minivlm.data.formats.picture_files import TOO_LARGE, NameIndex, PictureFileError, relative_path
from minivlm.data.validation.picture import MAX_PICTURE_BYTES
from minivlm.errors import UserError

_ENCRYPTED = 0x1  # of a member's flag bits
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError)


class PictureZip:
    """Pictures in a zip, by the paths in it, with or without the one folder that they lie in."""

    _where = "the zip of pictures"

    def __init__(self, path: Path) -> None:
        """UserError when the file is not a zip that can be read."""
        try:
            self._zip = zipfile.ZipFile(path)
        except (*_DAMAGED, NotImplementedError) as error:
            raise UserError(f"{path}: not a readable zip: {' '.join(str(error).split())}") from None
        names = self._zip.namelist()  # a folder ends in "/"; a damaged entry may have no name
        self._index = NameIndex(name for name in names if name and not name.endswith("/"))

    def read(self, name: str) -> bytes:
        """The bytes of a picture; PictureFileError says why there are none."""
        info = self._zip.getinfo(self._index.find(relative_path(name), self._where))
        if stat.S_ISLNK(info.external_attr >> 16):
            raise PictureFileError("a link in the zip; links are not followed")
        if info.flag_bits & _ENCRYPTED:
            raise PictureFileError("encrypted in the zip")
        if info.file_size > MAX_PICTURE_BYTES:
            raise PictureFileError(TOO_LARGE)
        try:
            with self._zip.open(info) as member:
                return member.read(MAX_PICTURE_BYTES)
        except (NotImplementedError, RuntimeError) as error:
            raise PictureFileError(f"cannot be read from the zip ({error})") from None
        except _DAMAGED as error:
            raise PictureFileError(f"damaged in the zip ({' '.join(str(error).split())})") from None

    def close(self) -> None:
        """Close the zip."""
        self._zip.close()
