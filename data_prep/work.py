"""Independent pieces of work on all cores, in processes that never import TensorFlow unless the work itself does."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple


class Skipped(NamedTuple):
    """Stands where an example would, for an input that could not be used; `reason` is listed in skipped.txt."""

    reason: str


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(function: Callable[[Any], Any], tasks: Iterable[Any], workers: int) -> Iterator[Any]:
    """Yields `function(task)` for each task, in the tasks' order, whatever the number of workers.

    Args:
      function: picklable (a module's function, or a functools.partial of one), returning something picklable.
      tasks: picklable; read a little ahead of what is yielded, so results never pile up.
      workers: spawned processes; 0 calls `function` in this process.
    """
    if workers == 0:
        yield from map(function, tasks)
        return
    # 'spawn', not 'fork': a fork of a process that has imported TensorFlow inherits its locks and may hang.
    pool = concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_settle)
    waiting: deque[concurrent.futures.Future] = deque()
    try:
        for task in tasks:
            with _sigint_held():  # `submit` may start a process.
                waiting.append(pool.submit(function, task))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _sigint_held() -> Iterator[None]:
    """Ctrl-C waits for the end of the block, so that a process started in it is neither born half nor reached before `_settle`."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers, or is interrupted
        yield
        return
    came = []
    handler = signal.signal(signal.SIGINT, lambda *_: came.append(True))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which the new process inherits
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


def _settle() -> None:
    """Makes a worker leave Ctrl-C to its parent, and leave itself when its parent is gone (even by kill -9)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
