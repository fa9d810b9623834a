"""The page about reliability says what its figures say, and the figures say that nothing was lost."""

import pytest

from minivlm.files import read_json
from tests.reliability.record import FILE, record, with_table

FOUND = read_json(FILE) if FILE.exists() else {}


def test_the_table_is_that_of_the_figures():
    page = FILE.with_suffix(".md").read_text(encoding="utf-8")
    assert with_table(page, FOUND) == page


def test_every_kind_is_counted():
    assert FOUND.keys() >= {"kills", "faults", "tracking", "fuzz", "validation"}


@pytest.mark.parametrize("kind", FOUND)
def test_nothing_was_lost_doubled_or_unhandled(kind):
    counted = (
        "faults",
        "lost_steps",
        "doubled_metrics",
        "metrics_lost",
        "metrics_doubled",
        "unhandled_exceptions",
    )
    assert {name: FOUND[kind][name] for name in counted if FOUND[kind].get(name)} == {}


def test_an_entry_replaces_that_of_its_kind_alone(tmp_path):
    (tmp_path / "reliability.md").write_text("a\n<!-- reliability:begin -->\nold\n<!-- reliability:end -->\nb\n")
    kills = {
        "command": "make kills",
        "kills": 3,
        "survived": 3,
        "resumed": 2,
        "trainings": 2,
        "lost_steps": 0,
        "doubled_metrics": 0,
    }
    fuzz = {"command": "make fuzz", "inputs": 2000, "unhandled_exceptions": 0}
    for kind, values in (("kills", kills | {"kills": 1}), ("fuzz", fuzz), ("kills", kills)):
        record(kind, values, tmp_path / "reliability.json")
    assert list(read_json(tmp_path / "reliability.json")) == ["fuzz", "kills"]
    page = (tmp_path / "reliability.md").read_text()
    assert page.startswith("a\n") and page.endswith("\nb\n") and "old" not in page
    assert "| inputs, made and mutated | 2,000 |" in page and "of 2 trainings | 3 |" in page
