"""Every reader ends well or in one line: a small fixed set of what `make fuzz` does for long, and the harness."""

import os
import resource
import time
from collections import Counter
from pathlib import Path

import pytest

from minivlm.config import read_yaml
from minivlm.errors import UserError
from tests.contract.imports import ROOT
from tests.reliability import fuzz
from tests.reliability.fuzz import KINDS, run_kind, summary, try_inputs
from tests.reliability.fuzz_kind import Kind, nothing
from tests.reliability.fuzz_params import use_values, write_values

# As many as take a second or so.
COUNTS = {
    "params.yaml as text": 60, "values of params.yaml": 150, "profiles": 12, "Parquet files": 40,
    "JSON lines and zips": 40, "texts": 150, "pictures": 150, "model directories": 10, "checkpoints (.pth)": 30,
    "training states": 40, "token and picture stores": 30, "tracking journals": 15,
    "feature caches": 20, "models brought along": 10, "requests": 80,
}  # fmt: skip


def test_all_kinds_are_tried():
    assert COUNTS.keys() == KINDS.keys()
    assert sum(kind.share for kind in KINDS.values()) == 1000


@pytest.mark.parametrize("name", KINDS)
def test_inputs_are_taken_or_refused_in_one_line(name, tmp_path):
    outcomes = list(try_inputs(KINDS[name], 0, COUNTS[name], 1, tmp_path / "fuzz"))
    assert [outcome for outcome in outcomes if outcome.fault] == []
    assert len(outcomes) == COUNTS[name]
    # A bad picture costs its row, a bad line of a journal nothing but itself.
    costs_nothing = name in ("pictures", "tracking journals")
    assert costs_nothing or any(outcome.result == fuzz.REFUSED for outcome in outcomes)


@pytest.mark.parametrize("name", ["params.yaml as text", "values of params.yaml", "Parquet files", "pictures"])
def test_the_same_seed_makes_the_same_inputs(name, tmp_path):
    one, same, other = (
        [outcome[:3] for outcome in try_inputs(KINDS[name], 0, 30, seed, tmp_path / str(place))]
        for place, seed in enumerate((3, 3, 4))
    )

    def without_folder(outcomes, place):
        return [message.replace(str(tmp_path / str(place)), "") for _, _, message in outcomes]

    assert without_folder(one, 0) == without_folder(same, 1)
    assert name == "pictures" or without_folder(one, 0) != without_folder(other, 2)


def test_every_stage_is_planned_with_the_parameters_as_they_are(tmp_path):
    """Else no input would come further than the first stage whose data is not beside it."""
    write_values(tmp_path, read_yaml(ROOT / "params.yaml", "params.yaml"), plans=True)
    use_values(tmp_path)


def kind(use, seconds=5.0):
    def make(prepared, random, number, folder):
        (folder / "input").write_text(str(number))

    return Kind("own", 1000, nothing, make, use, seconds)


def refuse(said):
    def use(folder):
        raise UserError(said)

    return use


def sleep(folder):
    time.sleep(5)


def compute(folder):
    while True:
        pass


def swallow(folder):
    try:
        compute(folder)
    except Exception:  # as some libraries do: the clock must not be caught with it
        return


def grow(folder):
    most = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # tests before this one may have reached it
    held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    bytearray(os.urandom(1 << 20) * ((most - held >> 20) + 64))


def ends(folder):
    raise SystemExit(2)


def fails(folder):
    raise KeyError("x")


@pytest.mark.parametrize(
    ("use", "seconds", "fault"),
    [
        (lambda folder: None, 5, ""),
        (refuse("what, where: what to do"), 5, ""),
        (refuse("two\nlines"), 5, "its message is no line"),
        (refuse(""), 5, "its message is no line"),
        (sleep, 0.1, fuzz.HANG),
        (compute, 0.1, fuzz.HANG),
        (swallow, 0.1, fuzz.HANG),
        (grow, 5, fuzz.LARGE),
        (ends, 5, "SystemExit: 2"),
        (fails, 5, "KeyError: 'x'"),
    ],
)
def test_the_harness_tells_every_kind_of_fault_and_keeps_its_input(tmp_path, monkeypatch, use, seconds, fault):
    monkeypatch.setattr(fuzz, "LARGEST", 8 << 20)
    [outcome] = try_inputs(kind(use, seconds), 0, 1, 0, tmp_path / "fuzz")
    assert outcome.fault.startswith(fault) and bool(outcome.fault) == bool(fault)
    assert (tmp_path / "fuzz" / "000000" / "input").exists() == bool(fault)


def serve(name, first, count, seed, folder, pipe):
    """A child that dies at input 1 and waits without end at input 3."""
    for number in range(first, first + count):
        if number == 1:
            os._exit(9)
        if number == 3:
            time.sleep(100)
        pipe.send(fuzz.Outcome(number, fuzz.TAKEN))


def test_a_process_that_dies_or_hangs_costs_the_input_that_it_was_at(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "_IMPORTS", 30.0)
    found = list(run_kind(kind(None, 0.05), 6, 0, tmp_path, time.monotonic() + 100, serve))
    assert [outcome.number for outcome in found] == list(range(6))
    faults = {outcome.number: outcome.fault for outcome in found if outcome.fault}
    assert faults == {1: "the process ended with code 9", 3: f"{fuzz.HANG}, in code that nothing interrupts"}


def test_counts_are_summed_by_kind():
    counts = {"a": Counter(inputs=3, taken=1, refused=2), "b": Counter(inputs=2, refused=1, faults=1)}
    found = summary(counts, 5, 0, 90.0)
    assert (found["inputs"], found["taken"], found["refused"], found["unhandled_exceptions"]) == (5, 1, 3, 1)
    assert found["kinds"]["b"] == {"inputs": 2, "taken": 0, "refused": 1}
    assert found["command"] == "make fuzz N=5" and found["minutes"] == 1.5
