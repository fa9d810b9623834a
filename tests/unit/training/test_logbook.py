"""What is remembered of a run beside its states: damage of it costs a line and never the training."""

import errno
import json
from pathlib import Path

import pytest

from minivlm.tracking import NullRun
from minivlm.training.logbook import Logbook, take_up


class Told(NullRun):
    """A tracker with a run, which remembers what it is told."""

    def __init__(self):
        super().__init__()
        self.points, self.taken_up = [], ""

    @property
    def id(self):
        return "0123abcd"

    def go_on(self, run, seconds=0.0):
        self.taken_up = run

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


def test_results_are_remembered_beside_the_states_before_the_run_begins(tmp_path):
    tracker = Told()
    tracker.remember = lambda file: tracker.points.append(file)
    tracker.begin = lambda: tracker.points.append("begun")
    take_up(tmp_path, tracker)
    assert tracker.points == [tmp_path / "results.jsonl", "begun"]


def test_a_line_that_a_full_disk_has_cut_takes_no_other_with_it(tmp_path, monkeypatch):
    """The next process has the steps before and behind it; what it cut is told anew."""
    book = opened(tmp_path, Told())
    book(1, {"loss": 1.0})
    path, opening = tmp_path / "points.jsonl", Path.open

    def full(self, mode):
        with opening(self, mode) as stream:
            stream.write(b'{"step": 2, "ti')
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        book(2, {"loss": 0.5})
    book(3, {"loss": 0.25})
    assert path.read_bytes().count(b"\n") == 3
    for _ in range(2):  # nor does the half of a last line that a crash has left
        tracker = Told()
        opened(tmp_path, tracker)
        assert [step for step, _ in tracker.points] == [1, 3]
        with path.open("ab") as stream:
            stream.write(b'{"step": 4')


def test_a_step_behind_half_a_line_is_there_for_the_third_process(tmp_path):
    path = write(tmp_path)
    with path.open("ab") as stream:
        stream.write(b'{"step": 4, "ti')
    opened(tmp_path, Told())(4, {"loss": 0.25})
    tracker = Told()
    opened(tmp_path, tracker)
    assert [step for step, _ in tracker.points] == [1, 2, 3, 4]
