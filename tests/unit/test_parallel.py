"""The ordered map over processes, and one function beside the body."""

import functools
import os
import subprocess
import sys
import time

import psutil
import pytest
import torch

from minivlm.errors import UserError
from minivlm.parallel import beside, ordered_map, tell
from minivlm.training.result import DivergedError

POWER_OF_THREE = functools.partial(pow, 3)


def test_results_keep_the_order_of_the_tasks_when_the_first_takes_longest():
    tasks = [1_000_000, *range(20)]
    assert list(ordered_map(POWER_OF_THREE, tasks, 2)) == list(map(POWER_OF_THREE, tasks))


def test_one_worker_means_this_process():
    assert list(ordered_map(lambda task: os.getpid(), [1, 2], 1)) == [os.getpid()] * 2


def test_few_tasks_are_taken_ahead_of_the_results():
    taken = []

    def tasks():
        for task in range(50):
            taken.append(task)
            yield task

    results = ordered_map(POWER_OF_THREE, tasks(), 2)
    assert next(results) == 1
    assert len(taken) <= 4
    results.close()


def test_what_the_function_raises_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(functools.partial(divmod, 1), [1, 0], 2))


def test_a_killed_worker_is_one_clear_line():
    with pytest.raises(UserError, match=r"runtime\.workers"):
        list(ordered_map(os._exit, [9, 9], 2))


def test_a_function_runs_beside_the_body():
    with beside(os.getpid) as result:
        here = os.getpid()
    assert result() != here


def test_what_the_function_tells_is_heard_here():
    heard = []
    with beside(tell, "half done", told=heard.append) as result:
        assert result() is None
        until = time.monotonic() + 10
        while not heard and time.monotonic() < until:
            time.sleep(0.01)
    assert heard == ["half done"]
    tell("to nobody")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_listener_that_fails_does_not_hold_up_the_function():
    with beside(tell, "half done", told=lambda message: 1 / 0) as result:
        assert result() is None


def test_what_the_function_raises_is_raised_by_the_waiting():
    with pytest.raises(ZeroDivisionError), beside(divmod, 1, 0) as result:
        result()


def test_when_the_body_fails_the_process_is_ended():
    start = time.monotonic()
    with pytest.raises(KeyError), beside(time.sleep, 60):
        raise KeyError
    assert time.monotonic() - start < 30


def test_a_killed_process_is_one_clear_error():
    with pytest.raises(UserError, match="killed"), beside(os._exit, 9) as result:
        result()


def test_a_process_that_a_stop_ends_at_once_is_no_process_that_was_killed():
    with pytest.raises(KeyboardInterrupt), beside(time.sleep, 60) as result:
        result(lambda: True)


@pytest.mark.parametrize(
    "body",
    ["with beside(time.sleep, 60): print(flush=True); time.sleep(60)",
     "results = ordered_map(time.sleep, [0, 60, 60], 2); next(results); print(flush=True); next(results)"],
)  # fmt: skip
def test_when_the_parent_is_killed_the_processes_end_too(body):
    code = "import os, time\nfrom minivlm.parallel import beside, ordered_map, tell\n"
    code += f"if __name__ == '__main__':\n  {body}\n"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout.readline()
    until = time.monotonic() + 20
    while not (children := psutil.Process(parent.pid).children(recursive=True)):
        assert time.monotonic() < until
    time.sleep(1)  # the child has begun
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []


def diverge():
    raise DivergedError("loss is nan; training stopped", 8, 7, {"weight": torch.ones(2)})


def test_a_training_that_diverges_beside_the_body_says_so_here():
    with pytest.raises(DivergedError, match="loss is nan") as caught, beside(diverge) as result:
        result()
    assert caught.value.best_step == 7
    assert torch.equal(caught.value.best_state["weight"], torch.ones(2))
