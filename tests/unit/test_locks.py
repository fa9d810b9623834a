"""Locks: of one process at a time, released by its end."""

import subprocess
import sys
import time
from multiprocessing import get_context

import pytest

from minivlm.errors import UserError
from minivlm.locks import alone, exclusive

HOLD = """
import sys, time
from pathlib import Path
from minivlm.locks import alone
with alone(Path(sys.argv[1]), "sft is being run"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds tmp_path/lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_an_exclusive_lock_is_released_when_its_block_ends(tmp_path):
    for _ in range(2):
        with exclusive(tmp_path / "lock", wait=False):
            pass


def test_an_exclusive_lock_is_refused_while_another_has_it(tmp_path):
    with exclusive(tmp_path / "lock"), pytest.raises(BlockingIOError), exclusive(tmp_path / "lock", wait=False):
        pass


def test_a_second_process_is_told_which_one_is_first(tmp_path, holder):
    for _ in range(2):  # to be refused takes nothing from the first
        with (
            pytest.raises(UserError, match=f"^sft is being run by process {holder.pid}; wait"),
            alone(tmp_path / "lock", "sft is being run"),
        ):
            pass


def test_a_process_that_was_killed_holds_nothing(tmp_path, holder):
    holder.kill()
    holder.wait()
    with alone(tmp_path / "lock", "sft is being run"):
        pass


def test_what_a_process_has_forked_does_not_hold_its_lock(tmp_path):
    """A loader's worker lives some seconds longer than the training that was killed: it must not be in the way."""
    with alone(tmp_path / "lock", "sft is being run"):
        worker = get_context("fork").Process(target=time.sleep, args=(600,))
        worker.start()
    try:
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "held\n" and worker.is_alive()
            process.kill()
    finally:
        worker.kill()
        worker.join()
