"""Work in this process, or in worker processes that end when it ends.

**Mapper**: runs a module-level function over small picklable tasks, and gives the results as they
come, in any order.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any, Protocol, TypeVar

from omr_data.errors import WorkerError

T = TypeVar("T")
R = TypeVar("R")


class Mapper(Protocol):
    """Runs one function over tasks, in any order."""

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Yields the results as they come. Tasks are taken only as fast as they are worked off.

        Raises:
            Exception: The first error of a task.
        """
        ...


@contextmanager
def mapper(workers: int, start: Callable[..., None], *arguments: Any) -> Iterator[Mapper]:
    """Yields a mapper.

    Args:
        workers: How many processes work. With one, this process is it.
        start: Is called in each process first.
        *arguments: Are passed to `start`.
    """
    if workers == 1:
        start(*arguments)
        yield SerialMapper()
        return
    # Spawned (about 1 s to start), not forked: forking a process that has threads can deadlock.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(start, *arguments)
    )
    try:
        # Started now and not with the first task: workers inherit that Ctrl-C is blocked for them.
        # A terminal sends it to every process of the group, and each would print a traceback.
        # The tracker comes first, because starting it would unblock the signal again.
        resource_tracker.ensure_running()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            pool.submit(os.getpid)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        yield _ProcessMapper(pool, workers)
    except KeyboardInterrupt:
        # Shards are written atomically, so running ones can be given up. Waiting for them, as the
        # shutdown below would, can take minutes.
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class SerialMapper:
    """Runs every task in this process, in order."""

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        return map(function, tasks)


class _ProcessMapper:
    def __init__(self, pool: ProcessPoolExecutor, workers: int) -> None:
        self._pool, self._workers = pool, workers

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        waiting: set[Future[R]] = set()
        try:
            for task in tasks:
                # Two tasks per worker keep all of them busy, and bound what is in memory.
                if len(waiting) >= 2 * self._workers:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
                waiting.add(self._pool.submit(function, task))
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except BrokenProcessPool as error:
            raise WorkerError(
                "a worker process was killed, most often because memory ran out. What was finished "
                "is kept: run the same command again, with fewer --workers if it happens again."
            ) from error
        finally:
            for future in waiting:
                future.cancel()


def _start_worker(start: Callable[..., None], *arguments: Any) -> None:
    # Libraries may unblock the signal that was blocked for the start of this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    start(*arguments)


def die_with_parent() -> None:
    """Ends this worker process as soon as its parent is gone, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait_for_end() -> None:
        parent.join()
        # Not sys.exit: that would only end this thread, and the main one may be in a long task.
        os._exit(1)

    threading.Thread(target=wait_for_end, daemon=True).start()
