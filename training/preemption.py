"""Being asked to stop: SIGTERM, which machines that are taken away send a while before they go, and Ctrl-C."""

import os
import signal
from types import TracebackType

EXIT_CODE = 75
"""Of a run that saved and stopped because it was asked to: EX_TEMPFAIL of sysexits.h, the same command continues."""

INTERRUPTED = 128 + signal.SIGINT
"""Of one that Ctrl-C stopped: a shell's loop that begins again on 75 must end."""

_ASKED = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


class Preemption:
    """Takes SIGTERM, and SIGINT where that is wanted, within its context.

    Attributes:
      asked: a signal has come; who trains saves and stops.
      deferred: there is something to save; before that, SIGTERM raises Preempted and SIGINT KeyboardInterrupt, at once.
        So does a second SIGINT at any time.
      by: what asked, in words.
      exit_code: of a process that stops because of it.
    """

    def __init__(self, *signals: signal.Signals) -> None:
        """Signals: those that are taken, if they are not ignored; none given: SIGTERM alone."""
        self.asked = self.deferred = False
        self.by, self.exit_code = "another machine", EXIT_CODE
        self._signals = signals or (signal.SIGTERM,)

    def __enter__(self) -> "Preemption":
        # What is ignored stays so: a shell's background jobs, and the trials of a search, get no Ctrl-C.
        taken = [number for number in self._signals if signal.getsignal(number) != signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._ask) for number in taken}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:
        if number == signal.SIGINT and (self.asked or not self.deferred):
            raise KeyboardInterrupt
        self.asked, self.by = True, _ASKED[number]
        if number == signal.SIGINT:
            self.exit_code = INTERRUPTED
            # Not by print, which must not be entered twice.
            os.write(2, b"\nstopping behind this step and saving; Ctrl-C again stops at once\n")
        if not self.deferred:
            raise Preempted("stopped as asked (SIGTERM) before the first step; the same command goes on")


class Preempted(Exception):
    """A run was asked to stop, and has saved what it could.

    Attributes:
      exit_code: that the process is to end with.
    """

    def __init__(self, message: str, exit_code: int = EXIT_CODE):
        super().__init__(message)
        self.exit_code = exit_code
