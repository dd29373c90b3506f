"""Parts of many requests → batches for the one thread that owns the model."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

_log = logging.getLogger(__name__)


class _Job:
    """The parts of one image, as far as they have come."""

    def __init__(self, parts: Iterator[Any], count: int):
        self.parts, self.count = parts, count
        self.left = count  # not in a batch yet
        self.results: list[Any] = []
        self.since = time.monotonic()
        self.future: Future[list[Any]] = Future()

    def add(self, results: Sequence[Any]) -> None:
        self.results += results
        if len(self.results) == self.count and self.future.set_running_or_notify_cancel():
            self.future.set_result(self.results)

    def fail(self, error: Exception) -> None:
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Batcher:
    """Batches what waits. One thread calls the model, and prepares what it needs first.

    Images share a batch as they come, a part of each in turn, so that a large one does not hold up small ones. How
    much may wait is the caller's to bound. An image whose future is cancelled is dropped. Where a batch fails, each
    image of it is tried by itself: only what fails again has failed.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[Any]], Sequence[Any]],
        most: int,
        delay_s: float,
        prepare: Callable[[], None],
        observe: Callable[[int], None],
    ):
        """Takes the model, but starts no thread yet.

        Args:
          predict: from parts to their results.
          most: parts at once.
          delay_s: seconds that the first part waits for others.
          prepare: called once in the thread, before the first batch.
          observe: gets the size of each batch.
        """
        self._predict, self._most, self._delay_s = predict, most, delay_s
        self._prepare, self._observe = prepare, observe
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self.ready: Future[None] = Future()

    def start(self) -> None:
        """Starts the thread; `ready` is done when `prepare` is, or has its error."""
        self._thread.start()

    def submit(self, parts: Iterator[Any], count: int) -> Future[list[Any]]:
        """Returns a future of the results of an image's parts, in their order; it may be cancelled.

        Args:
          parts: are asked for in the thread of the model.
          count: how many they are, at least 1.

        Raises:
          RuntimeError: the batcher is closed.
        """
        job = _Job(parts, count)
        with self._changed:
            if self._closing:
                raise RuntimeError("the batcher is closed")
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    @property
    def waiting(self) -> int:
        """Parts that are in no batch yet."""
        with self._changed:
            return self._count()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Finishes what was submitted and ends the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _count(self) -> int:
        return sum(job.left for job in self._jobs if not job.future.done())

    def _run(self) -> None:
        try:
            self._prepare()
        except Exception as error:
            _log.exception("the model could not be made ready")
            self.ready.set_exception(error)
            return
        self.ready.set_result(None)
        while (batch := self._take()) is not None:
            self._work(batch)

    def _take(self) -> list[_Job] | None:
        """Returns the jobs whose next parts make a batch, each as often as it has parts in it; None: all is done."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closing)
            if not self._jobs:
                return None
            until = self._jobs[0].since + self._delay_s
            while self._count() < self._most and not self._closing and (rest := until - time.monotonic()) > 0:
                self._changed.wait(rest)
            taken: list[_Job] = []
            while self._jobs and len(taken) < self._most:
                job = self._jobs.popleft()
                if job.future.done():  # cancelled, or failed
                    continue
                taken.append(job)
                job.left -= 1
                if job.left:
                    self._jobs.append(job)
            return taken

    def _work(self, jobs: list[_Job]) -> None:
        parts: dict[_Job, list[Any]] = {}
        for job in jobs:
            try:
                parts.setdefault(job, []).append(next(job.parts))
            except Exception as error:
                job.fail(error)
        parts = {job: own for job, own in parts.items() if not job.future.done()}
        if not parts or (error := self._try(parts)) is None:
            return
        for job, own in parts.items():
            if len(parts) == 1 or (error := self._try({job: own})) is not None:
                job.fail(error)

    def _try(self, parts: dict[_Job, list[Any]]) -> Exception | None:
        """Returns why a batch failed, or None and hands its results on."""
        together = [(job, part) for job, own in parts.items() for part in own]
        try:
            results = self._predict([part for _, part in together])
        except Exception as error:
            return error
        self._observe(len(together))
        for (job, _), result in zip(together, results, strict=True):
            job.add([result])
        return None
