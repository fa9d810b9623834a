"""Loading is measured in processes of their own, and its parts are parts of it."""

import pytest

from benchmarks.generation import write_random
from benchmarks.loading import PARTS, measure
from benchmarks.record import record
from benchmarks.tables import blocks
from tests.unit.benchmarks.tiny import BASE


@pytest.mark.slow
def test_what_loading_takes_is_within_what_the_process_takes(tmp_path):
    directory, _ = write_random(tmp_path / "random", BASE)
    found = measure(directory, repeats=1)
    parts = sum(found[f"{part}_seconds"] for part in PARTS)
    assert 0 < parts <= found["files_seconds"]
    assert found["imports_seconds"] + found["files_seconds"] <= found["ready_seconds"]
    assert found["processor_time_seconds"] > 0
    record("loading", {"models": [{"model": "toy", "megabytes": 1.5, **found}]}, directory=tmp_path)
    assert "| toy | 1.5 |" in blocks(tmp_path)["loading"]
