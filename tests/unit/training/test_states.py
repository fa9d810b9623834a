"""What is kept of a training: the last two states, whole; damage is noticed, and a full disk loses none."""

import os
import resource
import signal
from contextlib import contextmanager
from dataclasses import replace

import pytest

from minivlm.errors import UserError
from minivlm.training.states import OTHERS_KEPT, StateFolder, remove_states
from tests.unit.training.test_resume import STEPS, run


@pytest.fixture(scope="module")
def states():
    """The state after every step of a training."""
    found = []
    run(save_every=0.0, on_save=found.append)
    assert len(found) == len(STEPS)
    return found


@pytest.fixture
def folder(tmp_path):
    return StateFolder(tmp_path / "key")


def names(folder):
    return sorted(path.name[:13] for path in folder.path.iterdir())


def test_the_last_two_are_kept(folder, states):
    assert folder.newest() is None
    for state in states[:4]:
        folder.save(state)
    assert names(folder) == ["step-00000003", "step-00000004"]
    assert folder.newest().result.steps == 4


def test_a_damaged_state_is_told_of_and_the_one_before_is_taken(folder, states, capsys):
    for state in states[:2]:
        folder.save(state)
    newest = max(folder.path.iterdir())
    data = bytearray(newest.read_bytes())
    data[-5] ^= 1  # one bit of a weight: safetensors would read it
    newest.write_bytes(data)
    assert folder.newest().result.steps == 1
    assert f"warning: {newest}: damaged" in capsys.readouterr().err
    folder.save(states[1])
    assert folder.newest().result.steps == 2


def test_a_damaged_state_is_none_of_the_last_two(folder, states):
    """Its number may be higher than those of all that are saved from then on."""
    for state in (states[0], states[7]):
        folder.save(state)
    os.truncate(max(folder.path.iterdir()), 100)
    assert folder.newest().result.steps == 1
    for state in states[1:4]:
        folder.save(state)
    assert names(folder) == ["step-00000003", "step-00000004"]
    with full_disk(), pytest.raises(UserError, match=r"goes on after step 4$"):
        folder.save(states[4])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_last_is_that_of_the_highest_step_and_of_one_step_the_last_written(folder, states, order):
    """Not the last written whatever its step, as where a clock was set back; nor the one whose name is greater."""
    twice = [replace(states[3], result=replace(states[3].result, grad_norm=norm)) for norm in (0.5, 0.25)]
    for age, state in enumerate([twice[order[0]], twice[order[1]]]):
        folder.save(state)
        newest = max(folder.path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, times=(1_000_000 + age,) * 2)
    other = StateFolder(folder.path.with_name("other"))
    other.save(states[2])
    [written] = other.path.iterdir()
    written.replace(folder.path / written.name)  # of step 3, and written after those of step 4
    assert len(names(folder)) == 3
    assert folder.newest().result.grad_norm == twice[order[1]].result.grad_norm


def test_where_all_are_damaged_there_is_no_state(folder, states, capsys):
    folder.save(states[0])
    [only] = folder.path.iterdir()
    os.truncate(only, 100)
    assert folder.newest() is None
    assert "damaged" in capsys.readouterr().err


def test_what_a_killed_process_was_writing_is_no_state_and_goes_away(folder, states):
    folder.path.mkdir()
    (folder.path / ".step-00000009").write_bytes(b"half")
    assert folder.newest() is None
    folder.save(states[0])
    assert names(folder) == ["step-00000001"]


@contextmanager
def full_disk():
    """The system refuses to write beyond a limit, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_is_full_costs_nothing_that_was_saved(folder, states):
    for state in states[:2]:
        folder.save(state)
    full = pytest.raises(UserError, match=r"after step 3 cannot be saved .*make room.* goes on after step 2$")
    with full_disk(), full:
        folder.save(states[2])
    assert names(folder) == ["step-00000001", "step-00000002"]
    assert folder.newest().result.steps == 2


def test_a_state_is_on_the_disk_before_it_has_its_name_and_has_it_there_before_older_ones_go(
    folder, states, monkeypatch
):
    """Whatever moment the power fails at, two whole ones are there."""
    for state in states[:2]:
        folder.save(state)
    seen, expected = [], ["step-00000001", "step-00000002"]
    monkeypatch.setattr("minivlm.training.states.sync", lambda path: seen.append((path.name, names(folder))))
    folder.save(states[2])
    assert seen == [
        (".step-00000003", [".step-0000000", *expected]),
        ("key", [*expected, "step-00000003"]),
    ]
    assert names(folder) == ["step-00000002", "step-00000003"]


def test_removing_keeps_the_last_trainings_that_were_stopped(tmp_path, states, capsys):
    """In the order in which they were written to, which is not that of their names."""
    stopped = ["d", "b", "e", "a", "c"][: OTHERS_KEPT + 2]
    for age, name in enumerate(["own", *reversed(stopped)]):
        StateFolder(tmp_path / name).save(states[0])
        for file in (tmp_path / name).iterdir():
            os.utime(file, times=(1_000_000 - age,) * 2)
    (tmp_path / ".gone-1-own").mkdir()  # of a process that was killed while it removed
    (tmp_path / "best.safetensors").touch()  # of a training that diverged
    remove_states(tmp_path, "own")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(stopped[-OTHERS_KEPT:])
    removed = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert removed == [str(tmp_path / name) for name in stopped[:-OTHERS_KEPT]]


def test_a_folder_that_is_removed_is_out_of_the_way_before_its_first_file_goes(tmp_path, states, monkeypatch):
    StateFolder(tmp_path / "own").save(states[0])
    monkeypatch.setattr("minivlm.training.states.shutil.rmtree", lambda path, ignore_errors: None)  # killed here
    remove_states(tmp_path, "own")
    assert StateFolder(tmp_path / "own").newest() is None and not (tmp_path / "own").exists()


def test_what_an_earlier_process_of_the_same_number_has_left_is_in_nobodys_way(tmp_path, states):
    """In containers a stage has the same process number each time."""
    StateFolder(tmp_path / "own").save(states[0])
    left = tmp_path / f".gone-{os.getpid()}-own"
    left.mkdir()
    (left / "step").touch()
    remove_states(tmp_path, "own")
    assert list(tmp_path.iterdir()) == []
