"""Speed, CPU and memory of loaders in steady state, watched from outside their processes.

What else a machine does in a minute changes a rate more than two loaders differ. So all loaders stay alive and take
short turns: while one runs, the others are stopped (SIGSTOP), and ratios are of neighbouring turns.
"""

import ctypes
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.loaders import Loader

_TICKS = os.sysconf("SC_CLK_TCK")
_SETTLE = 0.3
"""Seconds of a turn that are not measured: what was about to be delivered when the turn before ended is delivered."""

_PR_SET_PDEATHSIG = 1
"""Of linux/prctl.h: the signal that a process gets when its parent ends."""

_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Speed:
    """What was measured of one turn of a loader.

    Attributes:
      rate: images/s.
      cpu: seconds of CPU for 1,000 images, of all its processes.
      memory_mib: of all its processes at the turn's end, without the code of programs and libraries; what they share
        counts once (Linux: anonymous and shared memory of the PSS).
    """

    rate: float
    cpu: float
    memory_mib: float


def measure_loaders(
    loaders: dict[str, Loader],
    folder: str,
    batch_size: int,
    cores: int,
    warm_up: float,
    seconds: float,
    turns: int,
) -> Iterator[dict[str, Speed]]:
    """Yields, for every turn, the speed of each loader.

    Args:
      loaders: by name; each is run in a process of its own. Nothing that measures runs there.
      folder: of `write_layouts`.
      batch_size: examples in a batch.
      cores: that each may use, and threads or worker processes that it gets.
      warm_up: seconds of each loader's work before the first turn, in which queues fill and tf.data tunes itself.
      seconds: of a turn.
      turns: number of them.

    Raises:
      ValueError: a loader failed; its traceback is on stderr.
    """
    with ExitStack() as stack:
        running = {}
        for name, load in loaders.items():
            running[name] = stack.enter_context(_Running(load, folder, batch_size, cores))
            running[name].work(warm_up)
        for _ in range(turns):
            yield {name: loader.work(seconds) for name, loader in running.items()}


@dataclass
class _Running:
    """A loader's process, which is stopped whenever `work` is not running."""

    load: Loader
    folder: str
    batch_size: int
    cores: int
    # Images delivered, and when (monotonic clock) the last of them were.
    delivered: object = field(default_factory=lambda: _SPAWN.Array("d", 2))

    def __enter__(self):
        arguments = (self.delivered, self.load, self.folder, self.batch_size, self.cores)
        self.process = _SPAWN.Process(target=_deliver, args=arguments)
        self.process.start()
        while not self._look()[0]:
            time.sleep(0.1)
        return self

    def __exit__(self, *_):
        self._signal(signal.SIGKILL)
        self.process.join()

    def work(self, seconds: float) -> Speed:
        """Returns the speed over a turn."""
        self._signal(signal.SIGCONT)
        time.sleep(_SETTLE)
        images, start = self._look()
        cpu = cpu_seconds(self.process.pid)
        time.sleep(seconds)
        delivered, end = self._look()
        while delivered == images:  # at least one batch
            time.sleep(0.01)
            delivered, end = self._look()
        cpu = cpu_seconds(self.process.pid) - cpu
        memory = sum(map(_memory_mib, _descendants(self.process.pid)))
        self._signal(signal.SIGSTOP)
        images = delivered - images
        return Speed(images / (end - start), 1000 * cpu / images, memory)

    def _look(self) -> tuple[float, float]:
        if not self.process.is_alive():
            raise ValueError(f"{self.load.__name__}: the loader stopped before its time")
        with self.delivered:  # its lock: a stopped process may hold it, a running one gives it back
            return self.delivered[0], self.delivered[1]

    def _signal(self, number: int) -> None:
        for pid in list(_descendants(self.process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _deliver(delivered, load: Loader, folder: str, batch_size: int, cores: int) -> None:
    """Counts the images of endless batches."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a stopped process could not see that it is left alone
    logging.disable(logging.WARNING)  # what libraries tell of themselves would break our tables
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    for images, _ in load(folder, batch_size, cores):
        with delivered:
            delivered[0] += len(images)
            delivered[1] = time.monotonic()


def _descendants(pid: int) -> Iterator[int]:
    """Yields the process and all that it started and that those started (Linux)."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _descendants(int(child))


def cpu_seconds(pid: int) -> float:
    """Returns the seconds of CPU of a process and its descendants, those that have ended included."""
    ticks = 0
    for descendant in _descendants(pid):
        with suppress(OSError):
            # Behind the name in brackets: state is field 3; utime, stime, cutime, cstime are 14 to 17.
            fields = Path(f"/proc/{descendant}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS


def _memory_mib(pid: int) -> float:
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))) / 2**10
    return 0.0
