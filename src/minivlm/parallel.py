"""Work in other processes: a map that keeps the order, and one function beside this process's own work.

Processes are spawned, not forked: a fork would copy the locks of threads that Arrow or MLflow have running.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Any, TypeVar

from minivlm.errors import UserError

_POLL_SECONDS = 0.2
Task = TypeVar("Task")
Result = TypeVar("Result")


def ordered_map(function: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> Iterator[Result]:
    """`map(function, tasks)` by `workers` processes; with one worker, in this process.

    Results come in the order of the tasks. At most two tasks per worker wait at a time, so a long stream of large
    tasks needs little memory. UserError when a worker is killed; what the function raises is raised here.
    """
    if workers <= 1:
        yield from map(function, tasks)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    context = multiprocessing.get_context("spawn")
    waiting: deque[Future[Result]] = deque()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent) as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(function, task))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise UserError("a worker process was killed (out of memory?); lower runtime.workers") from None
        finally:
            for future in waiting:
                future.cancel()


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, which ends this process; and end with it, should it be killed."""
    import multiprocessing
    import os
    import signal
    import threading

    parent = multiprocessing.parent_process()
    assert parent is not None
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


@contextmanager
def beside(function: Callable[..., Result], *arguments: Any) -> Iterator[Callable[..., Result]]:
    """Run `function(*arguments)` in a process of its own; gives a function that waits for what it returns.

    When the body of the `with` fails, the process gets SIGTERM, and when `stop()`, given to the waiting, holds:
    what the function then raises is raised by the waiting, and KeyboardInterrupt where SIGTERM has ended it at
    once. UserError when it is killed by others.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_follow_parent) as pool:
        future = pool.submit(function, *arguments)

        def terminate() -> None:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()

        def result(stop: Callable[[], bool] = lambda: False) -> Result:
            asked = False
            while not wait([future], _POLL_SECONDS).done:
                if stop() and not asked:
                    asked = True
                    terminate()
            try:
                return future.result()
            except BrokenProcessPool:
                if asked:
                    raise KeyboardInterrupt from None
                raise UserError("a process was killed (out of memory?); threads: 1 runs without it") from None

        try:
            yield result
        except BaseException:
            terminate()
            raise
