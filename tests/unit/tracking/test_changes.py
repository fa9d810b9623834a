"""What a reproduction says that it changed."""

import pytest

from minivlm.files import write_json
from minivlm.tracking import facts
from minivlm.tracking.changes import FIRST, NOTHING, note, since_last, told
from tests.unit.tracking.toys import PARAMS, by_stage, started, stored


def test_a_changed_parameter_is_told_with_both_values(tmp_path):
    first, second = {"sft.epochs": "0.5", "seed": "20"}, {"sft.epochs": "2", "seed": "20"}
    assert since_last(tmp_path, first) == (FIRST, "")
    note(tmp_path, "a 1", first)
    assert since_last(tmp_path, second) == ("sft.epochs: 0.5 → 2", "a 1")
    assert since_last(tmp_path, first) == (NOTHING, "a 1")


def test_what_only_one_has_and_code_and_data_are_named():
    before, now = {"a": "1", "code": "x", "data": "x"}, {"b": "2", "code": "y", "data": "y"}
    assert told(before, now) == "a: 1 → none; b: none → 2; code; data"


def test_many_and_long_changes_fit_a_cell():
    before = {f"p{n:02}": "0" for n in range(20)}
    assert told(before, {key: "1" for key in before}).endswith("p04: 0 → 1; and 15 more")
    assert len(told({"a": "x"}, {"a": "y" * 1000})) < 80


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", b'{"name": 1, "made_from": {}}', b'{"made_from": {"a": 1}}'])
def test_after_a_damaged_note_it_counts_as_the_first(tmp_path, damage):
    file = tmp_path / "names" / "last.json"
    file.parent.mkdir()
    file.write_bytes(damage)
    assert since_last(tmp_path, {"seed": "1"}) == (FIRST, "")
    note(tmp_path, "a 1", {"seed": "1"})
    assert since_last(tmp_path, {"seed": "2"}) == ("seed: 1 → 2", "a 1")


def test_code_and_data_change_what_a_reproduction_is_made_from(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("1")
    write_json(tmp_path / "data" / "questions.json", [])
    first = facts.made_from(tmp_path, {"sft": {"epochs": 0.5, "freeze": "llm"}})
    assert first.items() >= {"sft.epochs": "0.5", "sft.freeze": "llm"}.items()
    (tmp_path / "src" / "a.py").write_text("2")
    write_json(tmp_path / "data" / "questions.json", [1])
    assert told(first, facts.made_from(tmp_path, {"sft": {"epochs": 0.5, "freeze": "llm"}})) == "code; data"


def with_rate(rate):
    return PARAMS.model_copy(update={"sft": PARAMS.sft.model_copy(update={"learning_rate": rate})})


def test_a_reproduction_says_on_its_run_what_it_changed_since_the_last_complete_one(paths):
    started(paths, "sft", key="a", params=with_rate(0.001))
    started(paths, "evaluate", key="a", params=with_rate(0.001))
    started(paths, "sft", key="b", params=with_rate(0.004))  # and it comes no further
    started(paths, "sft", key="c", params=with_rate(0.002))
    tags = by_stage(paths)["reproduction"].data.tags
    assert tags["changed"] == "sft.learning_rate: 0.001 → 0.002"
    assert tags["changed.since"] == "no commit 1"
    assert "sft.learning_rate" in tags["mlflow.note.content"] and "*no commit 1*" in tags["mlflow.note.content"]


def test_reproductions_that_follow_each_other_have_colours_of_their_own(paths):
    for key in "abc":
        started(paths, "sft", key=key)
    parents = [run for run in stored(paths)[1] if run.data.tags["stage"] == "reproduction"]
    assert len({run.data.tags["mlflow.runColor"] for run in parents}) == 3
