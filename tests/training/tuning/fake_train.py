"""Stands in for train.py: same arguments, files, signals and exit codes, but its scores are a formula.

It fails in the ways of `FAILURES` for some global batch sizes, and has no score for 16. FAKE_PACE says how many seconds
each epoch takes; its last number holds for all that follow.
"""

import csv
import fcntl
import math
import os
import signal
import sys
import time
from pathlib import Path

import yaml

FAILURES = {
    13: (2, "error: the loss of step 3 is nan; lower --learning_rate"),
    14: (
        1,
        "Traceback (most recent call last):\nResourceExhaustedError: Graph execution error:\n\nOOM when allocating\n",
    ),
    15: (2, "error: history.csv: cannot be written (No space left on device)"),
}


def score(config: dict, epoch: int) -> float:
    """Rises with the epochs, highest at a learning rate of 1e-3."""
    if config.get("global_batch_size") == 16:
        return math.nan
    return (1 - 0.2 * abs(math.log10(config["learning_rate"]) + 3)) * (1 - 0.5**epoch)


def main() -> None:
    _, run, _, recipe = sys.argv[1:]
    run, config = Path(run), yaml.safe_load(Path(recipe).read_text())
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        print("a Ctrl-C would reach this process")
    run.mkdir(exist_ok=True)
    handle = os.open(run, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("error: another process is training into this RUN folder")
        sys.exit(2)
    for folder in ("checkpoints", "cache"):
        (run / folder).mkdir(exist_ok=True)
        (run / folder / "bytes").write_text("...")
    (run / "model.keras").write_text("model")
    history = run / "history.csv"
    done = len(history.read_text().splitlines()) - 1 if history.exists() else 0
    print(f"begins behind epoch {done}")
    if config["global_batch_size"] in FAILURES:
        code, words = FAILURES[config["global_batch_size"]]
        print(words)
        sys.exit(code)
    paces = os.environ.get("FAKE_PACE", "0").split()
    for epoch in range(done + 1, config["epochs"] + 1):
        until = time.monotonic() + float(paces[min(epoch, len(paces)) - 1])
        while not asked and time.monotonic() < until:
            time.sleep(0.01)
        if asked:
            print("stopped as asked")
            sys.exit(75)
        rows = [(number, score(config, number)) for number in range(1, epoch + 1)]
        with (run / "history.tmp").open("w") as file:
            csv.writer(file).writerows([("epoch", "val_dice_per_image"), *rows])
        (run / "history.tmp").replace(history)
    print("finished")


if __name__ == "__main__":
    main()
