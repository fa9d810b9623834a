"""Held-out rows, grouped by picture: what captions are scored against.

A picture is known by the sha256 of its bytes: the same picture in several rows is one picture with several
references. Only this module reads the column `scene`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.pictures import upright
from minivlm.data.scenes.world import Scene, Truth
from minivlm.data.validation.picture import row_pictures
from minivlm.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

_BATCH = 256  # rows read at once; a bound on memory, not on the result


@dataclass(frozen=True)
class Row:
    """One conversation; `picture` is the position of its picture in `Heldout.pictures`."""

    number: int
    turns: list[dict[str, str]]
    picture: int


@dataclass(frozen=True)
class Picture:
    """One distinct picture; `id` is `split:number` of its first row, `truth` None where no scene is known.

    `scene`: the scene as it was drawn, where the file says how (`minivlm.data.scenes.world.Scene`).
    """

    id: str
    sha256: str
    content: bytes
    references: tuple[str, ...]
    truth: Truth | None
    scene: Scene | None = None

    def decode(self) -> Image.Image:
        """The picture upright, as RGB."""
        from PIL import Image

        return upright(Image.open(io.BytesIO(self.content)))


@dataclass(frozen=True)
class Heldout:
    """The scored part of one held-out split, in the order of the file."""

    split: str
    pictures: list[Picture]
    rows: list[Row]

    @property
    def has_truth(self) -> bool:
        return self.pictures[0].truth is not None

    def sample(self, pictures: int) -> Heldout:
        """At most so many of the pictures, those with the smallest hashes, and their rows."""
        smallest = set(sorted(picture.sha256 for picture in self.pictures)[:pictures])
        kept = [i for i, picture in enumerate(self.pictures) if picture.sha256 in smallest]
        position = {old: new for new, old in enumerate(kept)}
        rows = [replace(row, picture=position[row.picture]) for row in self.rows if row.picture in position]
        return Heldout(self.split, [self.pictures[i] for i in kept], rows)


def read_heldout(table: Path, split: str, max_pictures: int, accepted: Iterable[int] | None = None) -> Heldout:
    """Read at most `max_pictures` distinct pictures of a split with all their rows.

    `accepted` are the row numbers to consider (None: all). Where there are more pictures than wanted, those
    with the smallest hashes are taken: a sample that does not depend on the order of the file, which is often
    sorted by source. UserError when no row is left, or when some pictures have a scene and others have none.
    """
    allowed = None if accepted is None else set(map(int, accepted))
    hashes = {n: hashlib.sha256(_picture(v)).hexdigest() for n, v in _column(table, "image_bytes", allowed)}
    wanted = set(sorted(set(hashes.values()))[:max_pictures])
    if not wanted:
        raise UserError(f"{table}: no row to evaluate")
    chosen = {n: h for n, h in hashes.items() if h in wanted}
    position = {h: i for i, h in enumerate(dict.fromkeys(chosen.values()))}

    rows = [Row(n, json.loads(text), position[chosen[n]]) for n, text in _column(table, "conversations", chosen)]
    scenes = {position[chosen[n]]: text for n, text in _column(table, "scene", chosen) if text is not None}
    content = {position[chosen[n]]: _picture(v) for n, v in _column(table, "image_bytes", chosen)}
    if scenes and len(scenes) < len(position):
        raise UserError(f"{table}: {len(position) - len(scenes)} pictures have no scene, the others have one")
    rows_of: dict[int, list[Row]] = {i: [] for i in range(len(position))}
    for row in rows:
        rows_of[row.picture].append(row)
    pictures = []
    for key, i in position.items():
        known = json.loads(scenes[i]) if i in scenes else {}
        truth = Truth.from_json(known) if known else None
        scene = _drawn(known) if known else None
        first = rows_of[i][0].number
        pictures.append(Picture(f"{split}:{first}", key, content[i], references(rows_of[i]), truth, scene))
    return Heldout(split, pictures, rows)


def references(rows: list[Row]) -> tuple[str, ...]:
    """What people (or the grammar) say of the picture of these rows, each text once.

    These are the answers of the rows with a single question. In a longer conversation the first question may
    ask for anything ("how many birds?"), and its answer would make a poor reference; it serves only where there
    is nothing else.
    """
    told = [[turn for turn in row.turns if turn["role"] != "system"] for row in rows]
    answers = [(len(turns), turn["content"]) for turns in told for turn in turns[1:2]]
    single = [text for turns, text in answers if turns == 2]
    return tuple(dict.fromkeys(single or [text for _, text in answers]))


def _drawn(scene: dict[str, Any]) -> Scene | None:
    """The scene with the place of everything in it; None where the file tells less."""
    try:
        return Scene.from_json(scene)
    except (LookupError, TypeError, ValueError):
        return None


def _picture(value: Any) -> bytes:
    """The one picture of a held-out row, also where the file has lists; the gate accepts no other rows."""
    (data,) = row_pictures(value)
    assert data is not None
    return data


def _column(table: Path, name: str, numbers: Collection[int] | None) -> Iterator[tuple[int, Any]]:
    """(row number, value) of one column, in order, for the rows wanted; nothing when the file lacks the column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(table) as file:
            if name not in file.schema_arrow.names:
                return
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH, columns=[name]):
                for value in batch.column(0):
                    if numbers is None or number in numbers:
                        yield number, value.as_py()
                    number += 1
    except FileNotFoundError:
        raise UserError(f"{table}: not found; run the download stage first: dvc repro download") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{table}: damaged Parquet file: {' '.join(str(error).split())}") from None
