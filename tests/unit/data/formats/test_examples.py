"""The example files of the documentation."""

import pytest

from minivlm.cli.check_data import check
from minivlm.data.formats.examples import ROWS, write_examples
from minivlm.data.formats.reader import open_rows
from minivlm.data.validation.picture import row_pictures
from tests.contract.imports import ROOT

COMMITTED = ROOT / "docs" / "examples"
NAMES = ["sft.parquet", "sft_data.jsonl", "sft_images.zip"]


def test_the_committed_files_are_what_the_module_writes(tmp_path):
    write_examples(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES
    for name in NAMES:
        assert (COMMITTED / name).read_bytes() == (tmp_path / name).read_bytes(), name
        assert (COMMITTED / name).stat().st_size < 150_000


@pytest.mark.parametrize("name", ["sft_data.jsonl", "sft.parquet"])
def test_every_row_of_an_example_passes_the_gate(name):
    verdict, _, _ = check(COMMITTED / name, None, 0)
    assert verdict.accepted_rows().tolist() == list(range(ROWS)) == list(range(20))
    assert (verdict.pictures, verdict.text_rows) == (22, 2)


def test_both_examples_hold_the_same_rows():
    both = (COMMITTED / "sft_data.jsonl", COMMITTED / "sft_images.zip"), (COMMITTED / "sft.parquet", None)
    lines, table = ([row for batch in open_rows(*place).batches() for row in batch.to_pylist()] for place in both)
    assert [row["conversations"] for row in lines] == [row["conversations"] for row in table]
    pictures = [[row_pictures(row["image_bytes"]) for row in rows] for rows in (lines, table)]
    assert pictures[0] == pictures[1]
    assert {len(each) for each in pictures[0]} == {0, 1, 2}
