"""docs/data.md against the checks that are made."""

from minivlm.data.validation.expectations import Limits, row_checks
from tests.contract.imports import ROOT


def test_every_row_check_stands_in_the_documentation_and_no_other():
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    table = text.split("## What validate checks")[1]
    lines = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = [name.strip(" `") for line in lines for name in line.split(",")]
    assert named == [check.name for check in row_checks(Limits(1, 1, 1), held_out=True)]
