"""Pictures in every format that is read, through the gate, the caption command and training's decoder."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from tests.reliability.fuzz_kind import Kind, nothing
from tests.reliability.fuzz_mutation import mutate_bytes, mutate_png

_KNOWN: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *(("JPEG", "RGB", {}), ("JPEG", "CMYK", {}), ("JPEG", "L", {"progressive": True})),
    *(("PNG", "RGB", {}), ("PNG", "P", {}), ("PNG", "RGBA", {}), ("GIF", "P", {}), ("BMP", "RGB", {})),
    *(("WEBP", "RGB", {}), ("TIFF", "RGB", {}), ("TIFF", "RGB", {"compression": "tiff_lzw"})),
    ("TIFF", "L", {"compression": "packbits"}),
)


@cache
def _pictures() -> list[tuple[str, bytes]]:
    from PIL import Image

    found = []
    noise = Image.frombytes("RGB", (32, 24), Random(0).randbytes(32 * 24 * 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind, mode, options in _KNOWN:
        options = {"exif": exif} if (kind, mode) == ("JPEG", "RGB") else options
        stream = io.BytesIO()
        noise.convert(mode).save(stream, kind, **options)
        found.append((kind, stream.getvalue()))
    return found


def _make_picture(prepared: Any, random: Random, number: int, folder: Path) -> None:
    known = _pictures()
    weights = [6 if kind in ("JPEG", "PNG") else 1 for kind, _ in known]
    kind, data = random.choices(known, weights)[0]
    others = [other for _, other in known]
    changed = (
        mutate_png(data, random) if kind == "PNG" and random.random() < 0.7 else mutate_bytes(data, random, others)
    )
    (folder / "picture").write_bytes(changed)


def _use_picture(folder: Path) -> None:
    """The gate, the caption command, and what training does with a picture that the gate has accepted.

    None of them refuses a picture: it costs its row, or its line, with the reason.
    """
    from minivlm.data.pictures import decode
    from minivlm.data.validation.picture import DECODES, RGB_MODES, is_placeholder, picture_facts
    from minivlm.generation.opening import read_picture

    data = (folder / "picture").read_bytes()
    is_placeholder(data)
    facts = picture_facts(data, 4096)
    read_picture(folder / "picture")
    if facts.decoding == DECODES and facts.mode in RGB_MODES:
        decode(data, 32)


KINDS = (Kind("pictures", 120, nothing, _make_picture, _use_picture),)
