"""The made tables: as many rows as asked for, all different, nothing that the gate would refuse."""

import pyarrow.parquet as pq
import pytest

from benchmarks import row_tables
from minivlm.data.validation.expectations import Limits
from minivlm.data.validation.gate import check_tables

ROWS = 1500


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_tables, "PICTURES", 6)
        patch.setattr(row_tables, "HELDOUT", 3)
        row_tables.write_tables(folder, ROWS)
    return folder


def test_every_conversation_is_another(folder):
    texts = [
        text
        for split in ("pretrain", "sft")
        for text in pq.read_table(folder / f"{split}.parquet")["conversations"].to_pylist()
    ]
    assert len(texts) == len(set(texts)) == ROWS


def test_the_gate_accepts_every_row(folder):
    tables = {path.stem: path for path in folder.iterdir()}
    verdicts = check_tables(tables, limits=Limits(2000, 16, 4096), max_bad_fraction=0.0, workers=1)
    assert {split: verdict.accepted for split, verdict in verdicts.items()} == {
        "pretrain": ROWS - row_tables.SFT,
        "sft": row_tables.SFT,
        "heldout": 3,
    }
    assert all(verdict.passed for verdict in verdicts.values())
