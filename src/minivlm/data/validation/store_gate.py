"""The gate behind tokenize: its stores are read back, checked and reported; one that breaks its contract fails."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from minivlm.data.rows import accepted_rows
from minivlm.data.validation.docs import offline_docs
from minivlm.data.validation.engine import GreatExpectations
from minivlm.data.validation.report import expectation_entry, rejected_entries
from minivlm.data.validation.token_checks import Settings, StoreOrigin, check_stores
from minivlm.data.validation.verdict import FileVerdict, row_id
from minivlm.errors import UserError
from minivlm.files import atomic_directory, write_json
from minivlm.paths import SPLITS, TRAIN_SPLITS

_NAMED = 5  # rows of a split in the error message


def gate_stores(
    folder: Path,
    origins: Mapping[str, tuple[Path, int]],
    meta: Mapping[str, Any],
    *,
    validation_fraction: float,
    reports: Path,
) -> None:
    """Check `folder`/<split> of each split; UserError, one line, when a store breaks its contract.

    `origins`: the file of accepted row numbers that a store was made of, and how many of them were left out;
    `meta`: what the stores were made with. `reports` gets <split>.json and the Data Docs in any case.
    """
    made_of = {split: StoreOrigin(accepted_rows(path), left_out) for split, (path, left_out) in origins.items()}
    with atomic_directory(reports / "data_docs") as docs:
        engine = GreatExpectations(docs)
        verdicts = check_stores(folder, made_of, Settings(meta, validation_fraction, TRAIN_SPLITS), engine)
        engine.build_docs()
        offline_docs(docs, verdicts.values())
    for split in SPLITS:
        found = verdicts.get(split)
        write_json(reports / f"{split}.json", store_report(found) if found else absent_store_report(split))
    if problem := store_failure(verdicts.values(), "reports/tokenize"):
        raise UserError(problem)


def store_report(verdict: FileVerdict) -> dict[str, Any]:
    """The report of one store, as plain values for JSON."""
    return {
        "split": verdict.file,
        "present": True,
        "passed": verdict.passed,
        "rows": verdict.rows,
        "faults": verdict.table_faults,
        "expectations": [expectation_entry(level, result) for level, result in verdict.results],
        "rows_at_fault": len(verdict.rejected),
        "rows_listed": rejected_entries(verdict),
    }


def absent_store_report(split: str) -> dict[str, Any]:
    """The report of an optional split that is not there; written so that the set of outputs is always the same."""
    return {"split": split, "present": False, "passed": True, "rows": 0}


def store_failure(verdicts: Iterable[FileVerdict], reports: str) -> str | None:
    """One line about the stores that break their contract, or None when none does."""
    told = []
    for verdict in verdicts:
        faults = [*verdict.table_faults]
        for row, reasons in list(verdict.rejected.items())[:_NAMED]:
            faults.append(f"{row_id(verdict.file, row)} ({reasons[0]})")
        if len(verdict.rejected) > _NAMED:
            faults.append(f"and {len(verdict.rejected) - _NAMED:,} rows more")
        if not verdict.passed:
            told.append(f"the token store of {verdict.file} breaks its contract: {', '.join(faults)}")
    if not told:
        return None
    return f"{'; '.join(told)} (see {reports}); make it again: dvc repro -f tokenize"
