"""Calls in worker processes, beside what this one does."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import cpu_count, get_context, parent_process

import cv2

_MOST_WORKERS = 8
"""What one model on one device keeps busy."""


def default_workers() -> int:
    """Returns one less than there are CPUs, because the model needs one too; from 1 to 8."""
    return min(_MOST_WORKERS, max(1, cpu_count() - 1))


@dataclass(frozen=True)
class Pool:
    """Processes that calls are made in; none where there are no workers."""

    workers: int
    executor: Executor | None


@contextmanager
def worker_pool(workers: int) -> Iterator[Pool]:
    """Yields a pool of so many processes, which start with the first calls.

    Calls that wait when the context is left are dropped.
    """
    if not workers:
        yield Pool(0, None)
        return
    # Spawned, not forked: TensorFlow's threads and locks do not survive a fork.
    executor = ProcessPoolExecutor(workers, get_context("spawn"), _prepare_worker)
    try:
        yield Pool(workers, executor)
    finally:
        executor.shutdown(cancel_futures=True)


class Calls:
    """Calls of a pool, whose results come in the order of the calls; without workers they are made in this process.

    Functions, arguments and results must be picklable.
    """

    def __init__(self, pool: Pool, most: int):
        """Takes a pool, which others may use too, and how many calls may be under way or wait."""
        self._executor, self._most = pool.executor, most
        self._pending: deque[Future] = deque()
        self._results: list = []

    def call(self, function: Callable, *arguments) -> None:
        """Calls function(*arguments); waits for the oldest call where there are too many, so that memory is bounded."""
        if self._executor is None:
            self._results.append(function(*arguments))
            return
        if len(self._pending) == self._most:
            self._results.append(self._pending.popleft().result())
        self._pending.append(self._executor.submit(function, *arguments))

    def results(self) -> list:
        """Returns the results of all calls, in their order, and waits for them."""
        while self._pending:
            self._results.append(self._pending.popleft().result())
        return self._results


def _prepare_worker() -> None:
    # Ctrl-C reaches all processes of a terminal; the one that started these ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A parent that was killed tells nobody.
    parent_process().join()
    os._exit(1)
