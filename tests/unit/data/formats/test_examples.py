"""The example files of the documentation."""

import pytest
from PIL import Image
from ruamel.yaml import YAML

from minivlm.cli.check_data import check
from minivlm.data.formats.examples import ROWS, write_examples
from minivlm.data.formats.reader import open_rows
from minivlm.data.validation.picture import row_pictures
from minivlm.files import sha256_file
from tests.contract.documents import blocks
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


def test_the_profile_of_own_rows_has_the_hashes_of_the_examples():
    local = YAML(typ="safe").load(ROOT / "profiles" / "own.yaml")["download"]["local"]
    assert set(local) == {"pretrain", "sft"}
    for named in local.values():
        assert named["sha256"] == sha256_file(ROOT / named["path"])
        assert named["images_sha256"] == sha256_file(ROOT / named["images"])


def test_the_program_of_the_walk_makes_rows_that_pass(tmp_path, monkeypatch):
    """docs/own-data.md: a table of captions and a folder of pictures become rows."""
    (tmp_path / "mine_images").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (32, 32), "red" if name == "a" else "blue").save(tmp_path / "mine_images" / f"{name}.jpg")
    (tmp_path / "captions.tsv").write_text("a.jpg\t一块红色。\nb.jpg\t一块蓝色。\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("docs/own-data.md", "python")
    exec(compile(code, "own-data", "exec"), {})  # as a reader would
    verdict, _, _ = check(tmp_path / "mine_data.jsonl", None, 0)
    assert verdict.rejected == {} and verdict.accepted == 2


def test_both_examples_hold_the_same_rows():
    both = (COMMITTED / "sft_data.jsonl", COMMITTED / "sft_images.zip"), (COMMITTED / "sft.parquet", None)
    lines, table = ([row for batch in open_rows(*place).batches() for row in batch.to_pylist()] for place in both)
    assert [row["conversations"] for row in lines] == [row["conversations"] for row in table]
    pictures = [[row_pictures(row["image_bytes"]) for row in rows] for rows in (lines, table)]
    assert pictures[0] == pictures[1]
    assert {len(each) for each in pictures[0]} == {0, 1, 2}
