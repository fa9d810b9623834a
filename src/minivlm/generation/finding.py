"""What a user names → pictures: files, folders, patterns, and what comes by standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from minivlm.data.validation.picture import MAX_PICTURE_BYTES
from minivlm.errors import UserError
from minivlm.generation.caption_files import PIPED

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")  # JPEG, PNG, GIF, TIFF


def find_pictures(places: Sequence[Path], standard_input: Callable[[int], bytes]) -> list[Path | bytes]:
    """Files as they are named, folders as the pictures in them by name, patterns as what they match by name.

    `-` is what `standard_input` reads (up to so many bytes): a picture, or paths, one a line (or with NUL between
    them, as `find -print0` writes them). UserError where nothing is found: no place, an empty folder, a pattern
    without a match, an empty input.
    """
    if not places:
        raise UserError("no pictures: name files, folders or patterns, or - for standard input")
    if places.count(PIPED) > 1:
        raise UserError("- stands for standard input, which can be read once")
    found: list[Path | bytes] = []
    for place in places:
        if place == PIPED:
            data = standard_input(MAX_PICTURE_BYTES + 1)
            if is_picture(data):
                found.append(data)
            else:
                found += _found(listed(data))
        else:
            found += _found([place])
    return found


def is_picture(data: bytes) -> bool:
    """Whether bytes begin as the files of pictures do, in one of the formats that are read, and no path does."""
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    bitmap = data[:2] == b"BM" and data[6:10] == bytes(4)  # reserved, always zero
    return webp or bitmap or data.startswith(_BEGINNINGS)


def listed(data: bytes) -> list[Path]:
    """Paths of a list; UserError when there is none, or the list is longer than any that is meant."""
    if len(data) > MAX_PICTURE_BYTES:
        raise UserError(f"standard input: more than {MAX_PICTURE_BYTES:,} bytes, and no picture")
    lines = data.split(b"\0") if b"\0" in data else data.splitlines()
    paths = [Path(os.fsdecode(line)) for line in lines if line.strip()]
    if not paths:
        raise UserError("standard input: neither a picture nor a path; it takes one path a line")
    return paths


def _found(places: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = sorted(each for each in place.iterdir() if each.suffix.lower() in SUFFIXES and each.is_file())
            if not inside:
                raise UserError(f"{place}: no picture in this folder ({', '.join(SUFFIXES)})")
            found += inside
        elif glob.has_magic(str(place)) and not place.exists():
            matches = sorted(Path(each) for each in glob.glob(str(place), recursive=True) if Path(each).is_file())
            if not matches:
                raise UserError(f"{place}: no file matches this pattern")
            found += matches
        else:
            found.append(place)
    return found
