"""The gates on the data in the pipeline itself, at toy size, and that a change which breaks a contract fails."""

import json
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minivlm.paths import SPLITS
from tests.integration.checkout import Checkout, stages_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout in which the stages up to tokenize have run."""
    checkout = Checkout(tmp_path_factory.mktemp("gate"))
    output = checkout.run("dvc", "repro", "tokenize")
    assert stages_run(output) == ["download", "validate", "base", "tokenize"]
    return checkout


@pytest.fixture
def put_back(checkout, tmp_path):
    """Brings back what a test and its failing validate change: running both stages again takes longer."""
    changed = [Path("artifacts/download"), Path("artifacts/validate"), Path("reports/validate")]
    for folder in changed:
        shutil.copytree(checkout.root / folder, tmp_path / folder)
    yield
    for folder in changed:
        shutil.rmtree(checkout.root / folder, ignore_errors=True)
        shutil.copytree(tmp_path / folder, checkout.root / folder)


def ended(checkout, *command):
    """Exit code and standard error of a command."""
    process = checkout.start(*command)
    _, errors = process.communicate()
    return process.returncode, errors


def reports(checkout, stage):
    folder = checkout.root / "reports" / stage
    return {split: json.loads((folder / f"{split}.json").read_text(encoding="utf-8")) for split in SPLITS}


def test_every_table_that_crosses_a_stage_was_checked(checkout):
    for stage, levels in (("validate", ["table", "row", "accepted"]), ("tokenize", ["table", "row"])):
        for report in reports(checkout, stage).values():
            assert report["passed"] and all(each["success"] for each in report["expectations"])
            assert list(dict.fromkeys(each["level"] for each in report["expectations"])) == levels
        docs = (checkout.root / "reports" / stage / "data_docs/index.html").read_text(encoding="utf-8")
        assert docs.count(">passed<") == len(SPLITS)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            lambda table: table.rename_columns(["messages", *table.column_names[1:]]),
            "conversations: no such column",
        ),
        (
            lambda table: table.set_column(1, "image_bytes", pa.array(["a.jpg"] * len(table))),
            "image_bytes: of type string",
        ),
        (
            lambda table: table.set_column(0, "conversations", pa.array(["oops", *table[0].to_pylist()[1:]])),
            "1 of 200 rows are at fault",
        ),
    ],
    ids=["renamed column", "other type", "bad row"],
)
@pytest.mark.usefixtures("put_back")
def test_a_change_of_data_or_schema_fails_validate_in_one_line(checkout, change, fault):
    table = checkout.root / "artifacts/download/sft.parquet"
    pq.write_table(change(pq.read_table(table)), table)
    code, errors = ended(checkout, sys.executable, "-m", "pipelines.validate")
    assert code == 2 and fault in errors and errors.startswith("error: sft") and errors.count("\n") == 1
    assert not (checkout.root / "artifacts/validate").exists()
    assert not reports(checkout, "validate")["sft"]["passed"]


def test_code_that_writes_another_schema_fails_the_pipeline(checkout):
    """A column renamed where rows are written and read alike is still another table."""
    source = checkout.root / "src/minivlm/data/store_writer.py"
    text = source.read_text(encoding="utf-8")
    changed = text.replace(
        '"supervised": np.array(self.supervised, np.int32)', '"supervised": np.array(self.supervised)'
    )
    assert changed != text
    source.write_text(changed, encoding="utf-8")
    try:
        code, errors = ended(checkout, "dvc", "repro", "tokenize")
    finally:
        source.write_text(text, encoding="utf-8")
    assert code != 0
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "the token store of pretrain breaks its contract: files: supervised.npy: int64" in line
