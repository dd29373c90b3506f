"""Speed, CPU and memory of a loader in steady state, watched from outside its process."""

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.loaders import Loader

_TICKS = os.sysconf("SC_CLK_TCK")
_LOOK_EVERY = 0.5  # seconds
_GOODBYE = 15  # seconds


@dataclass(frozen=True)
class Speed:
    """What was measured of one run of a loader.

    Attributes:
      rate: images/s.
      cpu: seconds of CPU for 1,000 images, of all its processes.
      memory_mib: peak of all its processes; what they share counts once (Linux: PSS).
    """

    rate: float
    cpu: float
    memory_mib: float


def measure_loader(load: Loader, folder: str, batch_size: int, cores: int, warm_up: float, seconds: float) -> Speed:
    """Returns the speed of a loader in a fresh process on so many cores, after so many seconds of warming up.

    The images are counted over `seconds` or a little more. Nothing that measures runs in the loader's processes.

    Raises:
      ValueError: the loader failed; its traceback is on stderr.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_run, args=(theirs, load, folder, batch_size, cores, warm_up, seconds))
    process.start()
    theirs.close()
    peak = 0.0
    try:
        assert process.pid is not None
        peak = _await(ours, process.pid, peak)
        ours.recv()
        cpu = _cpu_seconds(process.pid)
        peak = _await(ours, process.pid, peak)
        images, elapsed = ours.recv()
        cpu = _cpu_seconds(process.pid) - cpu
    except EOFError as error:
        raise ValueError(f"{load.__name__}: the loader stopped before its time") from error
    finally:
        ours.close()
        process.join(_GOODBYE)
        if process.is_alive():  # threads and worker processes of some loaders outlive their iterator
            _kill(process.pid)
            process.join()
    return Speed(images / elapsed, 1000 * cpu / images, peak)


def _run(
    connection: Connection, load: Loader, folder: str, batch_size: int, cores: int, warm_up: float, seconds: float
) -> None:
    """Sends once when warm, and (images, seconds) at the end; stays until the other side has looked."""
    logging.disable(logging.WARNING)  # what libraries tell of themselves would break our tables
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    batches = load(folder, batch_size, cores)
    _consume(batches, warm_up)
    connection.send(None)
    connection.send(_consume(batches, seconds))
    with suppress(EOFError, ConnectionResetError):
        connection.recv()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries complain when they are stopped in the middle
    batches.close()


def _consume(batches, seconds: float) -> tuple[int, float]:
    """Returns (images, seconds that they took)."""
    next(batches)  # the first batch tells when the loader is there
    start, images = time.monotonic(), 0
    while time.monotonic() - start < seconds:
        images += len(next(batches)[0])
    return images, time.monotonic() - start


def _await(connection: Connection, pid: int, peak: float) -> float:
    """Returns the peak memory in MiB up to the process' next message, or the one before if that was higher."""
    while True:
        arrived = connection.poll(_LOOK_EVERY)
        peak = max(peak, sum(map(_memory_mib, _descendants(pid))))  # with the message too: the sender waits for us
        if arrived:
            return peak


def _descendants(pid: int) -> Iterator[int]:
    """Yields the process and all that it started and that those started (Linux)."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _descendants(int(child))


def _kill(pid: int | None) -> None:
    for descendant in list(_descendants(pid)) if pid else []:
        with suppress(ProcessLookupError):
            os.kill(descendant, signal.SIGKILL)


def _cpu_seconds(pid: int) -> float:
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
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 2**10
    return 0.0
