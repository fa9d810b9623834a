"""`minivlm check-data` on files of the user's own."""

import json
import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from minivlm.cli import check_data
from minivlm.cli.main import app
from minivlm.data.validation.expectations import Limits, row_checks
from tests.contract.imports import ROOT
from tests.unit.data.validation.rows import good_rows, picture, talk, write_table

EXAMPLES = ROOT / "docs" / "examples"
MARKS = "the user's turns have one <image> for each picture, and a row without pictures has none"


def run(*arguments):
    return CliRunner().invoke(app, ["check-data", *map(str, arguments)])


def spoiled(folder):
    """The example of JSON lines with a fault in rows 1, 2, 4 and 7."""
    shutil.copy(EXAMPLES / "sft_images.zip", folder / "my_images.zip")
    lines = (EXAMPLES / "sft_data.jsonl").read_text(encoding="utf-8").splitlines()
    lines[1] = lines[1].replace("01.jpg", "不在.jpg")
    lines[2] = lines[2].replace("<image>", "")
    lines[4] = lines[4][:30]
    lines[7] = lines[7].replace("07.jpg", "../07.jpg").replace("<image>", "<image><image>")
    (folder / "my_data.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder / "my_data.jsonl"


def test_rows_that_pass_end_in_a_summary_and_exit_code_0():
    done = run(EXAMPLES / "sft_data.jsonl")
    assert done.exit_code == 0, done.output
    assert "JSON lines, pictures in " in done.output
    assert "20 rows: 20 accepted, 0 rejected\npictures: 22; rows without any: 2\n" in done.output


def test_what_is_wrong_is_said_in_words_by_row_and_line(tmp_path):
    done = run(spoiled(tmp_path))
    assert done.exit_code == 1
    _, readable, marks, summary = done.output.split("\n\n")
    assert readable.splitlines() == [
        "3 rows break this rule: the row and the pictures that it names can be read.",
        "  row 1 (line 2): picture 1 ('不在.jpg'): not in the zip of pictures",
        "  row 4 (line 5): the line: not JSON (Unterminated string starting at, character 29)",
        "  row 7 (line 8): picture 1 ('../07.jpg'): leads out of the pictures' folder",
    ]
    assert marks.splitlines() == [
        f"1 row breaks this rule: {MARKS}.",
        "  row 2 (line 3): no <image>, 1 picture",
    ]
    assert summary.splitlines()[:3] == [
        "20 rows: 16 accepted, 4 rejected",
        "  3 break the rule: the row and the pictures that it names can be read",
        f"  1 break the rule: {MARKS}",
    ]


def test_no_check_is_called_by_its_name_in_code(tmp_path):
    names = [check.name for check in row_checks(Limits(1, 1, 1), held_out=True)]
    assert re.findall("|".join(names), run(spoiled(tmp_path)).output) == []


def test_long_lists_are_cut_and_the_rest_is_counted(tmp_path):
    rows = [(talk(("user", "<image>"), ("assistant", "")), picture(number)) for number in range(30)]
    done = run(write_table(tmp_path / "a.parquet", [*rows, *good_rows(1, first=50)]))
    assert done.exit_code == 1
    assert done.output.count(": an assistant turn without text") == 20
    assert "  and 10 more (--show 0 lists all)\n" in done.output
    assert "31 rows: 1 accepted, 30 rejected" in done.output
    everything = run(tmp_path / "a.parquet", "--show", 0).output
    assert everything.count(": an assistant turn without text") == 30 and "more" not in everything


def test_a_limit_checks_the_first_rows(tmp_path):
    assert run(spoiled(tmp_path), "--limit", 1).exit_code == 0


def test_pictures_may_lie_elsewhere(tmp_path):
    shutil.copy(EXAMPLES / "sft_data.jsonl", tmp_path / "a.jsonl")
    assert run(tmp_path / "a.jsonl", "--images", EXAMPLES / "sft_images.zip").exit_code == 0


def lists_of_numbers(folder):
    path = folder / "a.parquet"
    pq.write_table(pa.table({"conversations": ["[]"], "image_bytes": [[1]]}), path)
    return path


def no_rows(folder):
    path = folder / "a.parquet"
    columns = {"conversations": pa.array([], pa.string()), "image_bytes": pa.array([], pa.binary())}
    pq.write_table(pa.table(columns), path)
    return path


def no_pictures(folder):
    path = folder / "a.jsonl"
    path.write_text(json.dumps({"conversations": [], "image": "a.jpg"}))
    return path


def text(folder):
    path = folder / "a.txt"
    path.write_text("hello\n")
    return path


@pytest.mark.parametrize("make", [lists_of_numbers, no_rows, no_pictures, text, lambda folder: folder / "nowhere"])
def test_a_file_that_cannot_be_used_is_one_line_and_exit_code_2(tmp_path, make):
    done = run(make(tmp_path))
    assert done.exit_code == 2
    assert re.fullmatch(r"error: [^\n]+\n", done.output)


def test_nothing_is_written(tmp_path, monkeypatch):
    path = spoiled(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    check_data.check(path, None, 0)
    assert sorted(tmp_path.rglob("*")) == before
