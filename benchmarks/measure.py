"""Seconds, CPU and memory of a function and of all processes that it starts."""

import logging
import multiprocessing
import os
import resource
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any

Run = Callable[[str, str, int], dict[str, float]]
"""(raw, out, workers) -> seconds by stage, "total" among them; makes the folder `out`."""


def measure(run: Run, raw: str, workers: int) -> dict[str, float]:
    """Returns what `run` returns, called in a fresh process, with its seconds of CPU and its peak memory in MiB.

    "cpu" is of that process and of all that it started. "driver_mib" is that process' own memory, "worker_mib" that of
    the largest process that it started, 0 without one.
    """
    before = _children_cpu()
    with tempfile.TemporaryDirectory() as folder:
        result = in_own_process(_with_memory, run, raw, f"{folder}/out", workers)
    return result | {"cpu": _children_cpu() - before}


def in_own_process(function: Callable, *arguments: Any) -> Any:
    """Returns function(*arguments), called in a fresh process, whose memory, also that of GPUs, is free afterwards.

    Raises:
      MemoryError: the process was killed, as systems do where memory runs out; and whatever the function raises.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        try:
            return executor.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise MemoryError("a process was killed, as systems do where memory runs out") from error


def _children_cpu() -> float:
    """Returns the seconds of CPU of all processes that descend from this one and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _with_memory(run: Run, raw: str, out: str, workers: int) -> dict[str, float]:
    logging.disable(logging.WARNING)
    for stream in (1, 2):  # what libraries and their processes print would break our tables
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    peaks = {os.getpid(): 0.0}
    done = threading.Event()
    watcher = threading.Thread(target=_watch_memory, args=(peaks, done))
    watcher.start()
    try:
        result = run(raw, out, workers)
    finally:
        done.set()
        watcher.join()
    driver = peaks.pop(os.getpid())
    return result | {"driver_mib": driver, "worker_mib": max(peaks.values(), default=0.0)}


def _watch_memory(peaks: dict[int, float], done: threading.Event) -> None:
    """Keeps the peak memory in MiB of this process and of all that descend from it, by process id.

    From /proc (Linux): getrusage counts for a child what its parent had when it was forked.
    """
    while not done.wait(0.2):
        statuses = {}
        for path in Path("/proc").glob("[0-9]*/status"):
            with suppress(OSError):
                status = dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)
                statuses[int(status["Pid"])] = status
        for pid, status in statuses.items():
            if "VmHWM" in status and _descends(pid, statuses):
                peaks[pid] = max(peaks.get(pid, 0.0), int(status["VmHWM"].split()[0]) / 2**10)


def _descends(pid: int, statuses: dict[int, dict[str, str]]) -> bool:
    while pid in statuses and pid != os.getpid():
        pid = int(statuses[pid]["PPid"])
    return pid == os.getpid()


def reset_peak() -> float:
    """Lets the peak memory of this process begin anew; returns what it holds now, MiB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory_mib("VmRSS")


def memory_mib(name: str, pid: int | str = "self") -> float:
    """Returns a field of a process' status in MiB: VmRSS is what it holds, VmHWM the peak (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return int(status[name].split()[0]) / 2**10
