"""What a user names → pictures: files, folders, patterns, and what comes by standard input."""

from __future__ import annotations

import glob
import os
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

from minivlm.data.validation.picture import MAX_PICTURE_BYTES
from minivlm.errors import UserError

STANDARD_INPUT = "-"  # among the places
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")  # JPEG, PNG, GIF, TIFF


def find_pictures(places: Sequence[str], standard_input: Callable[[int], bytes]) -> list[Path | bytes]:
    """Files as they are named, folders as the pictures in them by name, patterns as what they match by name.

    `-` is what `standard_input` reads (up to so many bytes): a picture, or paths, one a line (or with NUL between
    them, as `find -print0` writes them); these are names as they are, no patterns. So is a place of which there is
    one, brackets or not; `./-` is a file. Beside other places an empty folder or a pattern without a match is
    found as itself, and fails when it is opened; alone it is a UserError, as are no place and an empty input.
    """
    if not places:
        raise UserError("no pictures: name files, folders or patterns, or - for standard input")
    if places.count(STANDARD_INPUT) > 1:
        raise UserError("- stands for standard input, which can be read once")
    found: list[Path | bytes] = []
    for place in places:
        if not place:  # an unset variable of a shell; as a path it would be the working directory
            raise UserError("an empty name; name files, folders or patterns")
        if place == STANDARD_INPUT:
            data = standard_input(MAX_PICTURE_BYTES + 1)
            if is_picture(data) and not _begins_with_a_path(data):
                found.append(data)
            else:
                found += chain.from_iterable(_named(path) or [path] for path in listed(data))
        elif glob.has_magic(place) and not os.path.lexists(place):
            found += _matched(place) or _lacking(place, "no file matches this pattern", places)
        else:
            lacks = f"no picture in this folder ({', '.join(SUFFIXES)})"
            found += _named(Path(place)) or _lacking(place, lacks, places)
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
    paths = [Path(os.fsdecode(line)) for line in _lines(data.removeprefix(BOM_UTF8)) if line.strip()]
    if not paths:
        raise UserError("standard input: neither a picture nor a path; it takes one path a line")
    return paths


def _lines(data: bytes) -> list[bytes]:
    return data.split(b"\0") if b"\0" in data else data.splitlines()


def _begins_with_a_path(data: bytes) -> bool:
    """Whether what could be a picture is a list: its first line is the name of something, GIF89a.png perhaps."""
    first = re.split(rb"[\0\r\n]", data, maxsplit=1)[0]
    return os.path.lexists(os.fsdecode(first))


def _named(place: Path) -> list[Path]:
    """A file, or the pictures in a folder."""
    if not os.path.isdir(place):  # and not is_dir(): it raises where the system takes no such name
        return [place]
    return sorted(each for each in place.iterdir() if each.suffix.lower() in SUFFIXES and each.is_file())


def _matched(pattern: str) -> list[Path]:
    return sorted(Path(each) for each in glob.glob(pattern, recursive=True) if os.path.isfile(each))


def _lacking(place: str, lacks: str, places: Sequence[str]) -> list[Path]:
    """A place without a picture, as itself; UserError where there is no other, before a model is loaded for it."""
    if len(places) == 1:
        raise UserError(f"{place}: {lacks}")
    return [Path(place)]
