"""What is expected of the token stores, the tables that tokenize hands on, and the run of these checks.

No row may be at fault: what cannot be stored was left out before, so a store that breaks its contract was damaged,
or written by a faulty version.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.data.store import PictureStore, TokenStore
from minivlm.data.validation.checks import Check, CheckResult, faults_of
from minivlm.data.validation.engine import GreatExpectations
from minivlm.data.validation.findings import Findings
from minivlm.data.validation.picture_usage import PictureUsage, Range
from minivlm.data.validation.token_facts import row_frames, store_line
from minivlm.data.validation.verdict import FileVerdict

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class StoreOrigin:
    """What a store was made of."""

    accepted: npt.NDArray[np.int64]  # row numbers, ascending
    rejected: int  # of these, left out


@dataclass(frozen=True)
class Settings:
    """What all stores were made with."""

    meta: Mapping[str, Any]  # what meta.json has to say: vocabulary, image_tokens, max_length ...
    validation_fraction: float
    train_splits: Collection[str]


def store_checks(accepted: int, *, validated: Range, is_trained: bool) -> list[Check]:
    """Checks of a store as a whole; `validated`: for how many pictures it is plausible to be validated on."""
    between, null = (f"ExpectColumnValuesToBe{kind}" for kind in ("Between", "Null"))
    none = {"min_value": 0, "max_value": 0}
    checks = [
        Check("files_are_whole", "files", "every file is there, of the type and size that meta.json says",
              "{value}", null),
        Check("offsets_ascend", "offsets_falling", "offsets rise from 0", "{value} of them do not", between, none),
        Check("settings_agree", "settings", "meta.json names the tokenizer and the parameters of this run",
              "{value}", null),
        Check("counts_agree", "counts", "meta.json counts what the arrays hold", "{value}", null),
        Check("rows_ascend", "rows_not_rising", "row numbers rise from row to row, so that none stands twice",
              "{value} row numbers are not above the one before", between, none),
        Check("rows_were_accepted", "rows_not_accepted", "validate accepted every row",
              "{value} rows that validate did not accept", between, none),
        Check("no_row_is_lost", "rows_and_rejected",
              f"the rows stored and those left out are the {accepted:,} accepted",
              f"{{value}} stored or left out, and {accepted:,} were accepted",
              between, {"min_value": accepted, "max_value": accepted}),
        Check("validation_is_plausible", "validated",
              f"{validated.low:,} to {validated.high:,} pictures, or rows of text alone, are validated on",
              f"{{value}} pictures or rows of text alone, where {validated.low:,} to {validated.high:,} are "
              "plausible", between, {"min_value": validated.low, "max_value": validated.high}),
    ]  # fmt: skip
    if is_trained:
        checks.append(Check("rows_to_train_on", "training_rows", "there are rows to train on", "{value}",
                            between, {"min_value": 1}))  # fmt: skip
    return checks


def token_checks(*, max_length: int, vocabulary: int, image_tokens: int, pictures: int) -> list[Check]:
    """Checks of each row."""
    between, null = (f"ExpectColumnValuesToBe{kind}" for kind in ("Between", "Null"))
    return [
        Check("length_fits", "length", f"a row has 1 to {max_length:,} tokens", "{value} tokens",
              between, {"min_value": 1, "max_value": max_length}),
        Check("something_is_learned", "supervised", "at least one token is supervised", "{value} supervised",
              between, {"min_value": 1}),
        Check("supervised_as_counted", "supervised_counts",
              "as many tokens are supervised as supervised.npy says, so no more than there are",
              "{value}", null),
        Check("image_tokens_fit", "image_tokens", f"each picture has {image_tokens:,} image tokens",
              "{value}", null),
        Check("image_tokens_unsupervised", "supervised_image_tokens", "no image token is supervised",
              "{value} supervised image tokens", between, {"min_value": 0, "max_value": 0}),
        Check("ids_in_vocabulary", "highest_id", f"every id is below the vocabulary of {vocabulary:,}",
              "id {value}", between, {"max_value": vocabulary - 1}),
        Check("pictures_are_stored", "unknown_picture", f"every picture is one of the {pictures:,} stored",
              "picture {value}", null),
        Check("validation_apart", "shared_picture",
              "no picture of a row that is validated on is trained on, in this split or another",
              "picture {value} is trained on too", null),
    ]  # fmt: skip


def check_stores(
    folder: Path, origins: Mapping[str, StoreOrigin], settings: Settings, engine: GreatExpectations
) -> dict[str, FileVerdict]:
    """The verdicts on `folder`/<split>, the stores that `write_stores` wrote.

    UserError when a picture store is damaged.
    """
    import pandas as pd

    lines = {
        split: store_line(folder / split, origin.accepted, origin.rejected, settings.meta)
        for split, origin in origins.items()
    }
    sound = {
        split: TokenStore(folder / split)
        for split, line in lines.items()
        if line["files"] is None and not line["offsets_falling"] and line["settings"] is None
    }
    trained = {split: store for split, store in sound.items() if split in settings.train_splits}
    left_out = sum(origins[split].rejected for split in trained)
    usage = PictureUsage(trained.values(), _pictures(next(iter(trained.values()), None)))
    verdicts = {}
    for split, origin in origins.items():
        plausible, is_trained, line = Range(0, 0), split in settings.train_splits, lines[split]
        store = sound.get(split)
        if store and is_trained:
            line["validated"], plausible = usage.validated(store, settings.validation_fraction, left_out)
        elif store:
            line["validated"] = len(store.validation_rows())
        checks = store_checks(len(origin.accepted), validated=plausible, is_trained=is_trained)
        frame = pd.DataFrame({"row": [0], **{name: [value] for name, value in line.items()}})
        results = engine.run(f"{split}_table", frame, [check for check in checks if check.column in frame])
        trained_on = usage.trained_on if is_trained else None
        found = _rows_found(engine, split, store, settings.meta, trained_on) if store else None
        verdicts[split] = _verdict(split, results, found, len(store or ()))
    return verdicts


def _pictures(store: TokenStore | None) -> int:
    """How many pictures the picture store of a split has."""
    return len(PictureStore(store.directory.parent / store.meta["pictures"])) if store else 0


def _rows_found(
    engine: GreatExpectations,
    split: str,
    store: TokenStore,
    meta: Mapping[str, Any],
    trained_on: npt.NDArray[np.bool_] | None,
) -> Findings:
    """What the checks of each row find in a store."""
    import numpy as np

    pictures = _pictures(store)
    limits = {name: int(meta[name]) for name in ("max_length", "vocabulary", "image_tokens")}
    findings = Findings(f"{split}_rows", token_checks(**limits, pictures=pictures))
    for frame in row_frames(store, np.zeros(pictures, bool) if trained_on is None else trained_on):
        findings.add(engine, frame)
    return findings


def _verdict(split: str, table: Sequence[CheckResult], found: Findings | None, rows: int) -> FileVerdict:
    faults, rejected = faults_of(table), found.rejected if found else {}
    results = [("table", result) for result in table]
    if found:
        results += [("row", result) for result in found.results]
    return FileVerdict(split, rows, rejected, results, faults, passed=not faults and not rejected)
