"""What is kept of a training: the last two states, whole; damage is noticed, and a full disk loses none."""

import os
import resource
import signal

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


def test_a_disk_that_is_full_costs_nothing_that_was_saved(folder, states):
    """The system refuses to write beyond a limit, as a full disk does."""
    folder.save(states[0])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
        with pytest.raises(UserError, match=r"after step 2 cannot be saved .*make room.* goes on after step 1$"):
            folder.save(states[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert names(folder) == ["step-00000001"]
    assert folder.newest().result.steps == 1


def test_removing_keeps_the_last_trainings_that_were_stopped(tmp_path, states, capsys):
    """In the order in which they were written to, which is not that of their names."""
    stopped = ["d", "b", "e", "a", "c"][: OTHERS_KEPT + 2]
    for age, name in enumerate(["own", *reversed(stopped)]):
        StateFolder(tmp_path / name).save(states[0])
        for file in (tmp_path / name).iterdir():
            os.utime(file, times=(1_000_000 - age,) * 2)
    (tmp_path / ".gone-1-own").mkdir()  # of a process that was killed while it removed
    (tmp_path / "best.safetensors").touch()
    remove_states(tmp_path, "own")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*stopped[-OTHERS_KEPT:], "best.safetensors"]
    )
    removed = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert removed == [str(tmp_path / name) for name in stopped[:-OTHERS_KEPT]]


def test_a_folder_that_is_removed_is_out_of_the_way_before_its_first_file_goes(tmp_path, states, monkeypatch):
    StateFolder(tmp_path / "own").save(states[0])
    monkeypatch.setattr("minivlm.training.states.shutil.rmtree", lambda path, ignore_errors: None)  # killed here
    remove_states(tmp_path, "own")
    assert StateFolder(tmp_path / "own").newest() is None and not (tmp_path / "own").exists()
