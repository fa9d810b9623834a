"""Work in other processes: a map that keeps the order, and one function beside this process's own work.

Processes are spawned, not forked: a fork would copy the locks of threads that Arrow or MLflow have running.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from minivlm.errors import UserError
from minivlm.terminal import prepare_streams

_POLL_SECONDS = 0.2
_listener: Connection | None = None  # in a process that `beside` has started
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

    prepare_streams()
    parent = multiprocessing.parent_process()
    assert parent is not None
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _follow_and_tell(sender: Connection) -> None:
    global _listener
    _listener = sender
    _follow_parent()


def tell(message: object) -> None:
    """In a process that `beside` has started: hand a message to its `told`; elsewhere nothing."""
    if _listener is not None:
        with suppress(OSError):  # nobody listens any more
            _listener.send(message)


def _listen(receiver: Connection, told: Callable[[Any], None]) -> None:
    with receiver, suppress(EOFError):  # of the process that has ended
        while True:
            told(receiver.recv())


@contextmanager
def beside(
    function: Callable[..., Result], *arguments: Any, told: Callable[[Any], None] = lambda message: None
) -> Iterator[Callable[..., Result]]:
    """Run `function(*arguments)` in a process of its own; gives a function that waits for what it returns.

    `told(message)` is called, in a thread of this process, for each message that the other one gives to `tell`.

    When the body of the `with` fails, the process gets SIGTERM, and when `stop()`, given to the waiting, holds:
    what the function then raises is raised by the waiting, and KeyboardInterrupt where SIGTERM has ended it at
    once. UserError when it is killed by others.
    """
    import multiprocessing
    import threading
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    threading.Thread(target=_listen, args=(receiver, told), daemon=True).start()
    with ProcessPoolExecutor(1, mp_context=context, initializer=_follow_and_tell, initargs=(sender,)) as pool:
        future = pool.submit(function, *arguments)
        sender.close()  # the other process has its own, and the listening ends with that

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
