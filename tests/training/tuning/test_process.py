"""A trial's process: that it ends with whoever started it, and why it failed."""

import signal
import sys

import pytest

from training.preemption import EXIT_CODE
from training.tuning.process import failure, is_held, started, stop, was_stopped

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


def test_a_process_does_not_outlive_its_context_and_logs_behind_what_is_there(tmp_path):
    log = tmp_path / "log"
    log.write_text("before\n")
    with pytest.raises(KeyError), started(SLEEP, log) as process:
        raise KeyError
    assert process.returncode == -signal.SIGKILL
    with started([sys.executable, "-c", "print('behind')"], log) as process:
        assert process.wait(30) == 0
    assert log.read_text().endswith("behind\n") and log.read_text().startswith("before\n")


def test_who_does_not_stop_is_killed(tmp_path):
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    with started([sys.executable, "-c", deaf], tmp_path / "log") as process:
        while (tmp_path / "log").read_text() != "up\n":
            assert process.poll() is None
        stop(process, patience=0.2)
        assert process.poll() is None
    assert process.returncode == -signal.SIGKILL


def test_only_what_was_asked_to_stop_was_stopped():
    assert was_stopped(EXIT_CODE) and was_stopped(-signal.SIGTERM)
    assert not any(was_stopped(code) for code in (0, 1, 2, -signal.SIGKILL, -signal.SIGSEGV))


def test_a_folder_that_is_not_there_is_not_held(tmp_path):
    assert not is_held(tmp_path / "nowhere")
    assert not is_held(tmp_path)


@pytest.mark.parametrize(
    ("code", "log", "reason"),
    [
        (2, "1/3 loss 0.5\nerror: expected this,  found that\n", "expected this, found that (exit code 2)"),
        (1, "a\nTraceback\n  File\nValueError: first\nduring\nKeyError: 'last'\n", "KeyError: 'last' (exit code 1)"),
        (1, "tensorflow.errors.ResourceExhaustedError: G\nOOM when x\n [Op:f]\n", "OOM when x (exit code 1)"),
        (3, "only this\n\n", "only this (exit code 3)"),
        (3, "", "it printed nothing (exit code 3)"),
        (-9, "error: of before\n", "killed by SIGKILL, as the machine does when memory runs out"),
        (-11, "", "killed by SIGSEGV"),
        (2, "x" * 30_000 + "\nerror: at the end\n", "at the end (exit code 2)"),
    ],
)
def test_the_reason_of_a_failure_is_what_it_said_last(tmp_path, code, log, reason):
    (tmp_path / "log").write_text(log)
    assert failure(code, tmp_path / "log") == reason
