"""python -m preprocess.worker PARENT: a worker process of the local runner, Beam's own, which ends with its parent.

Beam's waits for ever for a runner that was killed before it answered.
"""

import os
import sys
import threading
import time

from apache_beam.runners.worker import sdk_worker_main


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    # Given, not asked for: the parent may have ended before this process was up.
    threading.Thread(target=_end_with, args=(int(sys.argv[1]),), daemon=True).start()
    sdk_worker_main.main(sys.argv[:1])
