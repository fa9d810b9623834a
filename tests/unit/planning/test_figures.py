"""Numbers that say where they come from."""

from types import SimpleNamespace

import pytest

from minivlm.planning.bounds import most_batches
from minivlm.planning.figures import Figure, disk, memory, size_text, total, unknown


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1288490189, "1.2 GiB"), (3 << 50, "3072.0 TiB")],
)
def test_bytes_are_written_in_the_unit_that_fits(count, text):
    assert size_text(count) == text


def test_a_figure_is_known_bounded_or_unknown():
    assert Figure(3, "a file").fields("rows") == {"rows": 3, "rows_from": "a file"}
    assert Figure(3, "a file", exact=False).fields("rows") == {
        "rows": None, "rows_at_most": 3, "rows_from": "a file"
    }  # fmt: skip
    assert unknown("not there").fields("rows") == {"rows": None, "rows_why": "not there"}


def test_a_sum_is_only_as_known_as_its_parts():
    known, bound = Figure(3, "a"), Figure(4, "b", exact=False)
    assert total({"x": known, "y": known}) == Figure(6, "a")
    assert total({"x": known, "y": bound}) == Figure(7, "a, b", exact=False)
    assert total({"x": bound, "y": unknown("not there")}) == unknown("y: not there")


def test_a_bound_stays_one_through_every_step():
    assert Figure(3, "a", exact=False).map(lambda n: 2 * n, "twice") == Figure(6, "twice", exact=False)
    assert unknown("why").map(lambda n: 2 * n, "twice") == unknown("why")


def test_a_machine_that_is_too_small_is_said_to_be():
    assert memory({"weights": 10, "gradients": 5}, 14)["enough"] is False
    assert memory({"weights": 10, "gradients": 5}, 15)["enough"] is True
    assert "enough" not in memory({"weights": 10}, None)


def test_a_disk_that_holds_the_outputs_once_but_not_twice_is_too_small(tmp_path, monkeypatch):
    monkeypatch.setattr("minivlm.planning.figures.shutil.disk_usage", lambda folder: SimpleNamespace(free=20))
    folder = tmp_path / "not" / "there" / "yet"
    assert disk(Figure(10, "a"), folder)["enough"] is True
    assert disk(Figure(11, "a"), folder)["enough"] is False
    unclear = disk(Figure(10, "a"), folder, at_least="pictures repeat")
    assert unclear["needed"] is None and unclear["needed_at_least"]["bytes"] == 10
    assert disk(unknown("why"), folder)["needed_why"] == "why"


@pytest.mark.parametrize(
    ("rows", "longest", "budget"), [(1, 50, 50), (500, 40, 100), (3000, 64, 64), (4000, 9, 1000)]
)
def test_rows_never_make_more_batches_than_the_bound(rows, longest, budget):
    import numpy as np

    from minivlm.data.batches import plan_batches

    for seed in range(5):
        lengths = np.random.default_rng(seed).integers(1, longest + 1, rows)
        lengths[0] = longest
        assert len(plan_batches(lengths, budget, seed, 0)) <= most_batches(rows, longest, budget)
    same = np.full(rows, longest)
    assert len(plan_batches(same, budget, 0, 0)) <= most_batches(rows, longest, budget)
