"""Calls in other processes: their order, their number, their errors, their end."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evaluation.workers import Calls, Pool, default_workers, worker_pool


def test_results_come_in_the_order_of_the_calls_and_not_of_their_ends():
    with ThreadPoolExecutor(3) as executor:
        calls = Calls(Pool(3, executor), 5)
        for number in range(9):
            calls.call(lambda n: time.sleep(0.02 * (n % 3 == 0)) or n, number)
        assert calls.results() == list(range(9))


def test_no_more_calls_wait_than_may():
    released, asked = threading.Event(), []
    with ThreadPoolExecutor(1) as executor:
        calls = Calls(Pool(1, executor), 2)

        def ask():
            for number in range(4):
                asked.append(number)
                calls.call(released.wait)

        asker = threading.Thread(target=ask)
        asker.start()
        time.sleep(0.3)
        assert asked == [0, 1, 2]  # the third waits for the first
        released.set()
        asker.join()
        assert calls.results() == [True] * 4


def test_without_workers_calls_are_made_here():
    with worker_pool(0) as pool:
        calls = Calls(pool, 1)
        calls.call(os.getpid)
        calls.call(os.getpid)
        assert calls.results() == [os.getpid()] * 2
    assert default_workers() in range(1, 9)


def test_processes_do_the_work_without_tensorflow_and_their_errors_come_back():
    with worker_pool(1) as pool:
        calls = Calls(pool, 2)
        calls.call(os.getpid)
        calls.call(eval, "__import__('evaluation.shapes') and 'tensorflow' in __import__('sys').modules")
        process, has_tensorflow = calls.results()
        assert process != os.getpid()
        assert not has_tensorflow
        calls.call(int, "seven")
        with pytest.raises(ValueError, match="seven"):
            calls.results()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_processes_end_with_the_one_that_started_them(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os\n"
        "from evaluation.workers import Calls, worker_pool\n"
        "if __name__ == '__main__':\n"
        "    with worker_pool(1) as pool:\n"
        "        calls = Calls(pool, 1)\n"
        "        calls.call(os.getpid)\n"
        "        print(calls.results()[0], flush=True)\n"
        "        os.kill(os.getpid(), 9)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in [str(Path.cwd()), *sys.path] if path)}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    worker = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"worker {worker} outlived its parent")
