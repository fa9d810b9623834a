"""Accepted rows -> token stores and picture stores; the only step that sees text and pictures together.

Nothing is dropped silently: a row that would lose a part of its picture, or that nothing is learned from, is left
out and listed by its id; more than a bounded share of them fails the whole step.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.encoding import ChatEncoder
from minivlm.data.quarantine import Quarantine, check_quarantine, rejected_report
from minivlm.data.rows import Row, accepted_rows, read_rows
from minivlm.data.shares import Purpose, place
from minivlm.data.store_writer import PictureWriter, TokenWriter
from minivlm.data.tables import source_of
from minivlm.errors import UserError
from minivlm.files import write_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Source:
    """The Parquet file of a split, `<split>.parquet`, and the file of its accepted row numbers."""

    table: Path
    accepted: Path


@dataclass(frozen=True)
class SplitCounts:
    """What came of a split."""

    rows: int  # in the store
    truncated_rows: int  # of these
    rejected_rows: int  # left out


def write_stores(
    sources: Mapping[str, Source],
    output: Path,
    *,
    encoder: ChatEncoder,
    image_tokens: int,
    max_length: int,
    validation_fraction: float,
    max_bad_fraction: float = 0.0,
    listing: Path | None = None,
    train_splits: Sequence[str] = ("pretrain", "sft"),
) -> dict[str, SplitCounts]:
    """Write `output`/<split>/ for each source, and the pictures of all.

    Rows are cut at `max_length` tokens. Pictures of the training splits go to `output`/pictures/, those of the
    others to `output`/heldout_pictures/, so that no held-out row changes a byte that training reads. Rows that
    cannot be used are left out and listed in the JSON file `listing`, which is written in any case; rows.npy keeps
    the row numbers of the others. UserError when they are more than `max_bad_fraction` of a split, naming them, or
    when a training split has no row left to train on.
    """
    import numpy as np

    rules = _Rules(encoder, image_tokens, max_length)
    stores = {True: "pictures", False: "heldout_pictures"}
    pictures = {trained: PictureWriter(output / name) for trained, name in stores.items()}
    writers: dict[str, _SplitWriter] = {}
    for split, source in sources.items():
        dtype = "uint16" if encoder.vocabulary <= 1 << 16 else "uint32"
        writer = _SplitWriter(TokenWriter(output / split, dtype), pictures[split in train_splits], rules)
        for rows in read_rows(source.table, accepted_rows(source.accepted)):
            writer.add(rows)
        if not writer.quarantine.rows:
            raise UserError(f"{source.table}: no accepted row")
        writers[split] = writer
    quarantines = {split: writer.quarantine for split, writer in writers.items()}
    if listing:
        write_json(listing, rejected_report(quarantines))
    check_quarantine(quarantines, max_bad_fraction, max_length, listing)

    training = {split: writer for split, writer in writers.items() if split in train_splits}
    kept = validation_rows(_places(training, pictures[True]), validation_fraction)
    for split, writer in writers.items():
        meta = store_meta(encoder, image_tokens, max_length) | {"pictures": stores[split in train_splits]}
        writer.tokens.close(kept.get(split, np.zeros(len(writer.places), dtype=bool)), meta)
    for trained, store in pictures.items():
        of = [source_of(source.table) for split, source in sources.items() if (split in train_splits) == trained]
        store.close([name for name in dict.fromkeys(of) if name])
    return {
        split: SplitCounts(len(writer.places), writer.truncated, len(writer.quarantine.rejected))
        for split, writer in writers.items()
    }


def store_meta(encoder: ChatEncoder, image_tokens: int, max_length: int) -> dict[str, Any]:
    """What a store says that it was made with, beside its own counts."""
    return {
        "tokenizer_sha256": encoder.sha256,
        "vocabulary": encoder.vocabulary,
        "pad_token_id": encoder.pad_token_id,
        "image_token_id": encoder.image_token_id,
        "image_tokens": image_tokens,
        "max_length": max_length,
    }


def validation_rows(
    places: Mapping[str, npt.NDArray[np.floating]], fraction: float
) -> dict[str, npt.NDArray[np.bool_]]:
    """Which rows of each split are kept for the validation loss, (R,).

    `places` are those of the rows' pictures (`minivlm.data.shares`), infinite for a row that has to be trained on:
    one threshold for all splits keeps a picture out of training everywhere or nowhere. `fraction` of the pictures
    lies below it; in data so small that a split would have none, its lowest one is kept too, by all splits.
    UserError when nothing is left to train on.
    """
    import numpy as np

    lowest = [low for some in places.values() if np.isfinite(low := some.min())]
    kept = {split: (some < fraction) | np.isin(some, lowest) for split, some in places.items()}
    for split, is_kept in kept.items():
        if is_kept.all():
            raise UserError(
                f"{split}: all {len(is_kept)} rows would be kept for validation and none trained on; lower "
                "tokenize.validation_fraction or give it more pictures"
            )
    return kept


def _places(writers: Mapping[str, _SplitWriter], pictures: PictureWriter) -> dict[str, npt.NDArray[np.float64]]:
    """What `validation_rows` decides by.

    A row with several pictures has to be trained on, and so have all rows of one of these: else a picture could be
    validated on in one row and trained on in another.
    """
    import numpy as np

    linked = [pictures.find(digest) for writer in writers.values() for digest in writer.linked]
    ids = [number for number in linked if number is not None]
    return {
        split: np.where(np.isin(writer.tokens.first_pictures(), ids), np.inf, writer.places)
        for split, writer in writers.items()
    }


@dataclass(frozen=True)
class _Rules:
    """How a row becomes tokens."""

    encoder: ChatEncoder
    image_tokens: int
    max_length: int


class _SplitWriter:
    """Rows of one split on their way into the stores; those at fault are gathered, so that one run names all."""

    def __init__(self, tokens: TokenWriter, pictures: PictureWriter, rules: _Rules) -> None:
        self.tokens, self._pictures, self._rules = tokens, pictures, rules
        self.places = array("d")
        self.linked: set[bytes] = set()  # sha256 of the pictures of rows with several
        self.truncated = 0
        self.quarantine = Quarantine()

    def add(self, rows: Sequence[Row]) -> None:
        rules = self._rules
        conversations = [[turn._asdict() for turn in row.turns] for row in rows]
        encoded = rules.encoder.encode_rows(conversations, rules.image_tokens)
        for row, (whole, supervised) in zip(rows, encoded, strict=True):
            ids, mask = whole[: rules.max_length], supervised[: rules.max_length]
            self.quarantine.rows += 1
            if len(row.pictures) > 1:  # also of a row that is left out: base trains on it
                self.linked.update(hashlib.sha256(data).digest() for data in row.pictures)
            if fault := self._fault(row, whole, ids, mask):
                self.quarantine.rejected.append((row.id, fault))
                continue
            self.truncated += len(whole) > rules.max_length
            stored = [self._pictures.add(data) for data in row.pictures]
            self.tokens.add(row.number, ids, mask, [number for number, _ in stored])
            digest = stored[0][1] if stored else hashlib.sha256(repr(row.turns).encode()).digest()
            self.places.append(place(digest, Purpose.VALIDATION))

    def _fault(
        self,
        row: Row,
        whole: npt.NDArray[np.int64],
        ids: npt.NDArray[np.int64],
        mask: npt.NDArray[np.bool_],
    ) -> str | None:
        """Why a row cannot be stored, None when it can."""
        import numpy as np

        image = self._rules.encoder.image_token_id
        before, after = np.count_nonzero(whole == image), np.count_nonzero(ids == image)
        if before != len(row.pictures) * self._rules.image_tokens:
            return "not one <image> for each picture"
        if after != before:
            return "image tokens would be cut off"
        return None if mask.any() else "no supervised token"
