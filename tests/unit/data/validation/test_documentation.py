"""docs/data.md against the checks that are made."""

import re

from minivlm.data import quarantine
from minivlm.data.validation import verdict
from minivlm.data.validation.accepted import accepted_checks
from minivlm.data.validation.expectations import Limits, row_checks
from minivlm.data.validation.likeness import MOST_BITS
from minivlm.data.validation.picture_usage import Range
from minivlm.data.validation.token_checks import store_checks, token_checks
from tests.contract.imports import ROOT

TEXT = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


def section(title):
    return re.split(r"^## ", TEXT.split(f"\n## {title}\n")[1], flags=re.M)[0]


def named(title):
    """The names of checks in the tables of a section, in their order."""
    lines = [line.split("|")[1] for line in section(title).splitlines() if line.startswith("| `")]
    return [name.strip(" `") for line in lines for name in line.split(",")]


def test_every_row_check_stands_in_the_documentation_and_no_other():
    checks = row_checks(Limits(1, 1, 1, near_duplicate_bits=0), held_out=True)
    assert named("What validate checks") == [check.name for check in checks]


def test_what_the_lists_of_rejected_rows_hold_at_most_is_told():
    assert f"the first {verdict.MAX_LISTED:,} of a file" in section("What validate checks")
    assert f"the first {quarantine.MAX_LISTED:,} of a split" in section("What tokenize leaves out")


def test_the_bits_that_may_differ_are_told():
    assert f"in at most that many bits, 0 to {MOST_BITS}." in section("What validate checks")


def test_every_check_of_accepted_rows_stands_in_the_documentation():
    told = (
        section("What validate checks")
        .partition("What validate writes is read back:")[2]
        .partition("hold when")[0]
    )
    assert re.findall(r"`(\w+)`", told) == [check.name for check in accepted_checks(1, 1)]


def test_every_check_of_token_stores_stands_in_the_documentation_and_no_other():
    checks = [
        *store_checks(1, validated=Range(0, 0), is_trained=True),
        *token_checks(max_length=1, vocabulary=1, image_tokens=1, pictures=1),
    ]
    assert named("What tokenize checks") == [check.name for check in checks]
