"""A process of train.py: started, followed, stopped, and why it failed."""

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from training.preemption import EXIT_CODE

TRAIN = Path(__file__).parents[2] / "train.py"

_LAUNCH = Path(__file__).with_name("launch.py")

_PATIENCE = 120.0
"""Seconds that a trial, which nobody needs any more, has to end by itself."""

_TAIL = 20_000
"""Bytes at the end of a log in which the reason of a failure is looked for."""


@contextlib.contextmanager
def started(command: list[str], log: Path) -> Iterator[subprocess.Popen]:
    """Starts a process that writes into a log, behind what is there; it does not outlive the context, nor this process.

    It gets no Ctrl-C: see `training/tuning/launch.py`.
    """
    launch = [sys.executable, "-S", str(_LAUNCH), str(os.getpid())]
    with log.open("ab") as output:
        process = subprocess.Popen(
            launch + command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def stop(process: subprocess.Popen, patience: float | None = _PATIENCE) -> None:
    """Asks a process to save and end, and waits for it: for so many seconds, or until it has."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience)


def was_stopped(code: int) -> bool:
    """Whether an exit code says that the process was asked to stop."""
    return code in (EXIT_CODE, -signal.SIGTERM)


def is_held(folder: Path) -> bool:
    """Whether a process trains into a RUN folder."""
    if not folder.is_dir():
        return False
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)  # else there are no locks here
    finally:
        os.close(handle)
    return False


def failure(code: int, log: Path) -> str:
    """Returns in a line why a process failed, from its exit code and the end of its log."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        lines = [" ".join(line.split()) for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    said = [line for line in lines if re.match(r"error: |OOM when|[\w.]+(Error|Exception)\b", line)]
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (", as the machine does when memory runs out" if -code == signal.SIGKILL else "")
    # Of a traceback the last error counts, but that TensorFlow adds where it was behind why.
    out_of_memory = [line for line in lines if "OOM when" in line]
    reason = (out_of_memory or said or lines or ["it printed nothing"])[-1]
    return f"{reason.removeprefix('error: ')} (exit code {code})"
