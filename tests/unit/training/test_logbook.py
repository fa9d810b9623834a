"""What is remembered of a run beside its states: damage of it costs a line and never the training."""

import json

import pytest

from minivlm.tracking import NullRun
from minivlm.training.logbook import Logbook, take_up


class Told(NullRun):
    """A tracker with a run, which remembers what it is told."""

    def __init__(self):
        super().__init__()
        self.is_said = False
        self.points, self.taken_up = [], ""

    @property
    def id(self):
        return "0123abcd"

    def go_on(self, run, seconds=0.0, is_said=False):
        self.taken_up, self.is_said = run, is_said

    def then(self, done):
        self.when_over = [done]

    def log_metrics(self, metrics, step=None, time_ms=None):
        self.points.append((step, metrics))


def opened(folder, tracker):
    take_up(folder, tracker)
    return Logbook(folder, tracker.log_metrics)


def write(folder, steps=3):
    book = opened(folder, Told())
    for step in range(1, steps + 1):
        book(step, {"loss": 1.0 / step})
    return folder / "points.jsonl"


def test_what_was_told_is_told_again_once(tmp_path):
    write(tmp_path)
    tracker = Told()
    book = opened(tmp_path, tracker)
    book(3, {"loss": 9.0})
    book(4, {"loss": 0.25})
    assert tracker.taken_up == "0123abcd"
    assert tracker.points == [(1, {"loss": 1.0}), (2, {"loss": 0.5}), (3, {"loss": 1.0 / 3}), (4, {"loss": 0.25})]


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe", b"{", b"[]", b"3", b'{"step": 2}', b'{"step": "x", "time": 1, "metrics": {}}', b"[" * 5000,
     b'{"step": 2, "time": 1, "metrics": {"loss": null}}', b'{"step": 1e999, "time": 1, "metrics": {}}', b""],
)  # fmt: skip
def test_a_damaged_line_is_left_out_and_its_step_told_anew(tmp_path, line):
    path = write(tmp_path)
    lines = path.read_bytes().split(b"\n")
    lines[1] = line
    path.write_bytes(b"\n".join(lines))
    tracker = Told()
    book = opened(tmp_path, tracker)
    assert [step for step, _ in tracker.points] == [1, 3]
    book(2, {"loss": 0.5})
    assert [json.loads(each)["step"] for each in path.read_bytes().splitlines()[-1:]] == [2]


def test_a_damaged_id_of_the_run_does_not_end_the_training(tmp_path):
    write(tmp_path)
    (tmp_path / "run").write_bytes(b"\xff\xfe\x80")
    opened(tmp_path, Told())


def test_without_a_run_and_before_the_first_state_there_is_a_place_for_it(tmp_path):
    opened(tmp_path / "stage" / "key", NullRun())(1, {"loss": 1.0})
    assert (tmp_path / "stage" / "key" / "points.jsonl").exists()


def test_results_that_were_told_are_not_told_by_who_goes_on(tmp_path):
    first, second, third = Told(), Told(), Told()
    take_up(tmp_path, first)
    take_up(tmp_path, second)
    assert second.taken_up == first.id and not second.is_said
    for done in second.when_over:
        done()
    take_up(tmp_path, third)
    assert third.is_said
