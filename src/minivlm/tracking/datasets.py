"""The data sets that a stage's figures come from, as MLflow's page lists them: name, digest, rows.

They are the Parquet files of artifacts/download/, by whatever way of accepted rows and tokens a stage reads them:
those are what a user has chosen, or had drawn, and what two reproductions share or do not.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from minivlm.paths import SPLITS, TRAIN_SPLITS, Paths
from minivlm.tracking.facts import content_digest

USED = {
    "validate": SPLITS,
    "base": TRAIN_SPLITS,
    "tokenize": SPLITS,
    "pretrain": ("pretrain",),
    "sft": ("sft",),
    "evaluate": ("heldout", "compositional"),
    "reproduction": SPLITS,
}
"""Stage → the splits that it uses."""
_LONGEST_DIGEST = 36  # characters that MLflow takes


def datasets(paths: Paths, stage: str) -> list[dict[str, Any]]:
    """What the operation `inputs` tells of each split that `stage` uses and that is there.

    name, digest (of sha256 the first 36 digits, all 64 in the tags), context (training or evaluation), source (its
    path in the checkout), schema and profile (rows, accepted rows, bytes), the last three as MLflow's JSON.
    """
    found = []
    for split in USED.get(stage, ()):
        # One that cannot be read, the stage itself says more of than its tracking could.
        with contextlib.suppress(OSError, ValueError):
            if (file := paths.table(split)).is_file():
                found.append(_dataset(paths, split, file))
    return found


def _dataset(paths: Paths, split: str, file: Path) -> dict[str, Any]:
    import pyarrow.parquet  # its errors are ValueErrors or OSErrors

    kind, _, digest = content_digest(file).partition(":")
    about = pyarrow.parquet.read_metadata(file)
    profile = {"num_rows": about.num_rows, "bytes": file.stat().st_size}
    accepted = paths.accepted(split)
    if accepted.is_file():
        profile["accepted_rows"] = pyarrow.parquet.read_metadata(accepted).num_rows
    columns = [{"name": field.name, "type": _type(str(field.type))} for field in about.schema.to_arrow_schema()]
    return {
        "name": file.name,
        "digest": digest[:_LONGEST_DIGEST],
        "context": "training" if split in TRAIN_SPLITS else "evaluation",
        "tags": {kind: digest},
        "source": json.dumps({"uri": file.relative_to(paths.root).as_posix()}),
        "schema": json.dumps({"mlflow_colspec": columns}),
        "profile": json.dumps(profile),
    }


def _type(arrow: str) -> str:
    """MLflow's word for a column's type."""
    return {"large_string": "string", "large_binary": "binary"}.get(arrow, arrow)
