"""Validate many rows, each with a picture of its own: seconds, rows a second, and how memory grows with the rows.

    python -m tests.reliability.validation --rows 600000

The stage itself runs on made tables (benchmarks/row_tables.py), with every check on, at a tenth of the rows and at
all of them. The made pictures repeat few drawings, so the search for pictures that look alike is measured by
itself: as many random hashes as rows, some of them asked for again with bits flipped, all of which must be found.
Beside the seconds stand those of the processors, which do not count what else the machine did. The figures go to
docs/reliability.json.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.rows import checkout, place_tables, run_stage, write_params
from tests.reliability.record import FILE, record

BITS = 8
ASKED = 12_000  # held-out pictures: a fiftieth of 600,000


def validated(root: Path, rows: int) -> dict[str, Any]:
    """The figures of one run of the stage; AssertionError unless it accepted every row."""
    from minivlm.files import read_json

    place_tables(root, rows, None, own_pictures=True)
    write_params(root, epochs=1.0)
    before = os.times()
    figures = run_stage(root, "validate", rows)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    counts = read_json(root / "reports" / "validate" / "metrics.json")
    assert counts["pretrain"]["accepted"] + counts["sft"]["accepted"] == rows, counts
    return figures | {"cpu_seconds": round(used, 1)}


def searched(count: int, asked: int, bits: int) -> dict[str, Any]:
    """Seconds of a search among `count` hashes; AssertionError unless every planted one is found."""
    import numpy as np

    from minivlm.data.validation.likeness import LikenessIndex

    random = np.random.default_rng(0)
    hashes = random.integers(1, 1 << 64, count, np.uint64)
    planted = hashes[:asked].copy()
    for _ in range(bits):  # the same bit twice is a bit less
        planted ^= np.uint64(1) << random.integers(0, 64, asked, np.uint64)
    began = time.monotonic()
    places, differing = LikenessIndex(hashes).nearest(planted, bits)
    seconds = time.monotonic() - began
    found = int(((places == np.arange(asked)) | (differing < bits)).sum())
    assert found == asked, f"{found} of {asked} found"
    return {"pictures": count, "held_out": asked, "bits": bits, "found": found, "seconds": round(seconds, 1)}


def main(
    rows: Annotated[int, typer.Option(help="Rows of the larger run.")] = 600_000,
    file: Annotated[Path, typer.Option(help="Where the figures go.")] = FILE,
) -> None:
    """Measure and record."""
    with tempfile.TemporaryDirectory(prefix="validation-") as folder:
        root = checkout(Path(folder))
        few, many = (validated(root, count) for count in (rows // 10, rows))
    grown = many["peak_memory_bytes"] - few["peak_memory_bytes"]
    values = {
        "command": f"python -m tests.reliability.validation --rows {rows}",
        "rows": rows,
        "pictures": rows,
        "seconds": many["seconds"],
        "cpu_seconds": many["cpu_seconds"],
        "rows_per_second": many["rows_per_second"],
        "peak_MiB": round(many["peak_memory_bytes"] / 2**20),
        "peak_MiB_of_a_tenth": round(few["peak_memory_bytes"] / 2**20),
        "bytes_a_row": round(grown / (rows - rows // 10)),
        "near_duplicates": searched(rows, min(ASKED, rows), BITS),
    }
    record("validation", values, file)
    typer.echo("\n".join(f"{name}: {value}" for name, value in values.items()))


if __name__ == "__main__":
    typer.run(main)
