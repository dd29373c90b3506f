"""How much the server takes on at a time."""

import contextlib
from collections.abc import Callable, Iterator

from serving.errors import busy


class Admission:
    """Requests in hand and the memory they may take. Used by the thread of the event loop alone.

    Attributes:
      requests: in hand.
      uploads: bodies that are being read.
      memory: bytes that the requests in hand may take.
      stopping: whether no more are taken.
    """

    def __init__(self, most_requests: int, most_memory: int):
        self._most_requests, self._most_memory = most_requests, most_memory
        self.requests = self.uploads = self.memory = 0
        self.stopping = False

    def stop(self) -> None:
        """Refuses all requests that come from now on."""
        self.stopping = True

    @contextlib.contextmanager
    def upload(self) -> Iterator[None]:
        """Takes a request whose body is to be read. Slow ones take no place in the queue, but are bounded as well.

        Raises:
          RefusedError: 503.
        """
        if self.stopping:
            raise busy("the server stops; try again later", seconds=5)
        self._check_requests()
        if self.uploads >= 4 * self._most_requests:
            raise busy(f"{self.uploads} requests are being read, which is the most; try again later")
        self.uploads += 1
        try:
            yield
        finally:
            self.uploads -= 1

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Takes a request whose body is there.

        Raises:
          RefusedError: 503.
        """
        self._check_requests()
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @contextlib.contextmanager
    def reserve(self, memory: int, held: int = 0) -> Iterator[None]:
        """Takes what an image may need, in bytes; where nobody else holds any, that may be more than there is for all.

        Args:
          memory: bytes.
          held: of what is counted already, the bytes that belong to the same request.

        Raises:
          RefusedError: 503.
        """
        if self.memory > held and self.memory + memory > self._most_memory:
            raise busy("the images in hand take all memory there is for them; try again later")
        self.memory += memory
        try:
            yield
        finally:
            self.memory -= memory

    @contextlib.contextmanager
    def text(self) -> Iterator[Callable[[int], None]]:
        """Yields what counts the bytes of a body that stays in memory as they come; they are given back at the end.

        Raises:
          RefusedError: 503, when they are counted.
        """
        held = 0

        def hold(count: int) -> None:
            nonlocal held
            if self.memory > held and self.memory + count > self._most_memory:
                raise busy("the requests in hand take all memory there is for them; try again later")
            held += count
            self.memory += count

        try:
            yield hold
        finally:
            self.memory -= held

    def _check_requests(self) -> None:
        if self.requests >= self._most_requests:
            raise busy(f"{self.requests} requests are in hand, which is the most; try again later")
