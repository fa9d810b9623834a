"""The pipeline as the page draws it: stages, what they read of each other, whether their parameters changed."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from minivlm.evaluation.page.dag import _lanes, figure
from minivlm.evaluation.pipeline_facts import StageFacts, read_pipeline
from minivlm.paths import STAGES, Paths

DVC = """
stages:
  first: {cmd: x, deps: [src/a.py], params: [first], outs: [artifacts/first]}
  second:
    cmd: x
    deps: [artifacts/first/part, data]
    outs:
    - artifacts/second
    metrics:
    - reports/second/metrics.json: {cache: false}
  third: {cmd: x, deps: [reports/second/metrics.json, artifacts/first], outs: [artifacts/third]}
"""
LOCK = """
stages:
  first: {cmd: x, params: {params.yaml: {first: {rate: 0.1, size: 3}, seed: 20}}}
  second: {cmd: x, params: {params.yaml: {}}}
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "dvc.yaml").write_text(DVC)
    (tmp_path / "dvc.lock").write_text(LOCK)
    (tmp_path / "params.yaml").write_text("seed: 20\nfirst: {rate: 0.1, size: 3}\n")
    return tmp_path


def test_a_stage_reads_what_another_writes_also_parts_and_metrics(root):
    first, second, third = read_pipeline(root)
    assert first.reads == {}
    assert second.reads == {"first": ["artifacts/first/part"], "data": ["data"]}
    assert third.reads == {"first": ["artifacts/first"], "second": ["reports/second/metrics.json"]}


def test_the_state_follows_from_dvc_lock_and_the_parameters(root):
    assert [stage.state for stage in read_pipeline(root)] == ["done", "done", "new"]
    assert [stage.state for stage in read_pipeline(root, running="third")] == ["done", "done", "done"]
    (root / "params.yaml").write_text("seed: 21\nfirst: {rate: 0.2, size: 3}\n")
    first = read_pipeline(root)[0]
    assert (first.state, first.changed) == ("changed", ("first.rate", "seed"))


def test_without_files_there_is_no_figure(tmp_path):
    assert read_pipeline(tmp_path) == [] and figure([], {}) == ""


def test_damaged_yaml_is_said_in_a_line(root):
    (root / "dvc.lock").write_text("stages: {")
    with pytest.raises(ValueError, match=r"dvc\.lock: "):
        read_pipeline(root)


def test_the_figure_has_every_stage_and_an_arrow_for_everything_that_is_read(root):
    html = figure(read_pipeline(root), {"first": "2 min"})
    for drawing in ElementTree.fromstring(html).iter("svg"):
        texts = [text.text for text in drawing.iter("text")]
        assert {"first", "second", "third", "✓ done · 2 min", "– not run", "↑ also reads data/"} <= set(texts)
        titles = [title.text for title in drawing.iter("title")]
        assert sorted(titles) == [
            "second reads artifacts/first/part",
            "third reads artifacts/first",
            "third reads reports/second/metrics.json",
        ]
        assert "third reads first, second" in drawing.get("aria-label")


def test_changed_parameters_are_named(root):
    (root / "params.yaml").write_text("seed: 20\nfirst: {rate: 0.2, size: 3}\n")
    assert "of other values of first.rate" in figure(read_pipeline(root), {})


def test_arrows_of_one_lane_do_not_overlap():
    stages = read_pipeline(Paths().root)
    assert [stage.name for stage in stages] == list(STAGES)
    place = {stage.name: i for i, stage in enumerate(stages)}
    lanes = _lanes(stages)
    jumps = {(place[a], place[b]): lane for (a, b), lane in lanes.items()}
    for (start, end), lane in jumps.items():
        others = [ends for ends, other in jumps.items() if other == lane and ends != (start, end)]
        assert all(end <= a or start >= b for a, b in others)
    arrows = sum(len(stage.reads.keys() - {"data"}) for stage in stages)
    assert len(lanes) == arrows - sum(a.name in b.reads for a, b in pairwise(stages))


def test_what_a_stage_is_called_stays_text():
    html = figure([StageFacts("<b>", {}, "new")], {})
    assert "<b>" not in html and "&lt;b&gt;" in html
