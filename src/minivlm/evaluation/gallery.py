"""A few drawn pictures of each split with what their rows say of them, for the page.

Pictures of other sources may be private: they stay where they are, and the page speaks of them in words alone.
"""

from __future__ import annotations

from pathlib import Path

from minivlm.data.data_uri import data_uri
from minivlm.data.rows import accepted_rows, read_rows
from minivlm.evaluation.page.data import Sample
from minivlm.paths import SPLITS, Paths

EACH = 6  # pictures of a split


def read_gallery(paths: Paths) -> dict[str, list[Sample]]:
    """Split → its first accepted rows with pictures not shown before; empty without drawn pictures in artifacts/.

    UserError when a file is damaged.
    """
    if not _drawn(paths.table("heldout")):
        return {}
    found: dict[str, list[Sample]] = {}
    shown: set[bytes] = set()
    for split in SPLITS:
        if paths.table(split).exists():
            found[split] = _first(paths, split, shown)
    return {split: samples for split, samples in found.items() if samples}


def _drawn(table: Path) -> bool:
    """Whether the pictures of this run were drawn: held-out rows then have a scene."""
    import pyarrow.parquet as pq

    return table.exists() and "scene" in pq.read_schema(table).names


def _first(paths: Paths, split: str, shown: set[bytes]) -> list[Sample]:
    """The first samples of a split; `shown` are the pictures that were shown before, and these afterwards."""
    samples: list[Sample] = []
    for rows in read_rows(paths.table(split), accepted_rows(paths.accepted(split))):
        for row in rows:
            if len(samples) == EACH:
                return samples
            if row.pictures and row.pictures[0] not in shown:
                shown.add(row.pictures[0])
                answer = next(turn.content for turn in row.turns if turn.role == "assistant")
                samples.append(Sample(row.id, data_uri(row.pictures[0], "jpeg"), answer))
    return samples
