"""SIGTERM, which machines that are taken away send a while before they go."""

import signal
from types import TracebackType

EXIT_CODE = 75
"""Of a run that saved and stopped because it was asked to: EX_TEMPFAIL of sysexits.h, the same command continues."""


class Preemption:
    """Takes SIGTERM within its context.

    Attributes:
      asked: the signal has come; who trains saves and stops.
      deferred: there is something to save; before that, the signal raises Preempted at once.
    """

    def __init__(self) -> None:
        self.asked = self.deferred = False

    def __enter__(self) -> "Preemption":
        self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _ask(self, number: int, frame: object) -> None:
        self.asked = True
        if not self.deferred:
            raise Preempted("stopped as asked (SIGTERM) before the first step; the same command goes on")


class Preempted(Exception):
    """A run was asked to stop, and has saved what it could."""
