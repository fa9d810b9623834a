"""The JSON reports, the metrics and the line that a failing stage ends with."""

import json
import re

import pytest

from minivlm.data.validation import report
from minivlm.data.validation.gate import check_tables
from tests.unit.data.validation.rows import LIMITS, good_rows, spoil, write_all

NOT_JSON = "conversation_is_turns: not JSON (Expecting value, character 1)"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """pretrain is good; seven of nine rows of sft and one of three of heldout are not JSON."""
    sft, heldout = spoil(good_rows(9), 7), spoil(good_rows(3, first=20), 1)
    tables = write_all(tmp_path_factory.mktemp("tables"), sft=sft, heldout=heldout)
    return check_tables(tables, limits=LIMITS, max_bad_fraction=0.0, workers=1)


def test_the_report_counts_and_names_every_rejected_row(verdicts):
    found = report.file_report(verdicts["sft"], 0.0)
    assert (found["rows"], found["accepted"], found["rejected"], found["passed"]) == (9, 2, 7, False)
    assert [row["id"] for row in found["rejected_rows"]] == [f"sft:{number}" for number in range(7)]
    assert found["rejected_rows"][0]["reasons"] == [NOT_JSON]


def test_the_report_has_each_expectation_with_its_outcome(verdicts):
    found = {entry["name"]: entry for entry in report.file_report(verdicts["sft"], 0.0)["expectations"]}
    assert found["has_image_bytes"]["level"] == "table" and found["has_image_bytes"]["success"]
    assert found["conversation_is_turns"]["level"] == "row" and not found["conversation_is_turns"]["success"]
    assert (found["conversation_is_turns"]["checked"], found["conversation_is_turns"]["unexpected"]) == (9, 7)
    assert "no_leakage" not in found
    heldout = report.file_report(verdicts["heldout"], 0.0)["expectations"]
    assert "no_leakage" in [entry["name"] for entry in heldout]


def test_distributions_are_of_all_rows_whose_value_is_known(verdicts):
    found = report.file_report(verdicts["sft"], 0.0)["distributions"]
    assert found["turns"] == {"min": 2, "median": 2.0, "max": 2}
    assert found["width"] == {"min": 16, "median": 16.0, "max": 16}
    assert found["format"] == {"JPEG": 9} and found["mode"] == {"RGB": 9}


def test_the_list_of_rows_is_bounded_and_the_total_is_not(verdicts, monkeypatch):
    monkeypatch.setattr(report, "MAX_LISTED", 3)
    found = report.file_report(verdicts["sft"], 0.0)
    assert len(found["rejected_rows"]) == found["rejected_rows_listed"] == 3
    assert found["rejected"] == 7


def test_reports_hold_no_time_and_no_path(verdicts, tmp_path_factory):
    text = json.dumps([report.file_report(verdict, 0.0) for verdict in verdicts.values()])
    assert str(tmp_path_factory.getbasetemp()) not in text
    assert re.findall(r"20\d\d-?\d\d-?\d\d|\d\d:\d\d|0x[0-9a-f]+", text) == []


def test_metrics_have_three_counts_for_each_file(verdicts):
    assert report.metrics(verdicts.values()) == {
        "pretrain": {"rows": 3, "accepted": 3, "rejected": 0},
        "sft": {"rows": 9, "accepted": 2, "rejected": 7},
        "heldout": {"rows": 3, "accepted": 2, "rejected": 1},
        "compositional": {"rows": 3, "accepted": 3, "rejected": 0},
    }


def test_the_failure_is_one_line_that_says_what_where_and_what_to_do(verdicts):
    line = report.failure(verdicts.values(), 0.0, "reports/validate")
    assert line is not None and "\n" not in line
    assert line.startswith("sft: 7 of 9 rows are at fault")
    assert f"sft:0 ({NOT_JSON})" in line and "sft:4" in line and "sft:5" not in line
    assert "reports/validate/sft.json" in line and "raise validate.max_bad_fraction" in line
    assert line.endswith("heldout failed too")


def test_no_line_when_every_file_passes(verdicts):
    assert report.failure([verdicts["pretrain"], verdicts["compositional"]], 0.0, "reports/validate") is None
