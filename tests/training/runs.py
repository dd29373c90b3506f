"""Starting, refusing and interrupting small runs."""

from pathlib import Path

import pytest
import tensorflow as tf

from model.config import AugmentConfig, ModelConfig
from records.info import RecordsInfo, read_info
from tests.conftest import silent_progress
from training.config import TrainConfig
from training.run import train
from training.run_folder import RunFolder

# Everything random is on, so that a resume has something to get wrong.
CONFIG = TrainConfig(
    epochs=2,
    global_batch_size=4,
    checkpoint_minutes=0,
    model=ModelConfig(depth=1, filters=2, dropout=0.2, noise=0.1),
    augment=AugmentConfig(affine=1.0),
)
TIMINGS = ("images_per_second", "input_wait")


def start(records: Path, folder: Path, config: TrainConfig = CONFIG, info: RecordsInfo | None = None, **how):
    """Trains; returns the state and what was told."""
    told = []
    state = train(
        str(records),
        info or read_info(str(records)),
        RunFolder(folder),
        config,
        tf.distribute.get_strategy(),
        how.get("progress", silent_progress),
        how.get("tell", told.append),
    )
    return state, told


def refuse(message: str, records: Path, folder: Path, config: TrainConfig = CONFIG, info: RecordsInfo | None = None):
    """Asserts that training raises this ValueError and leaves the RUN folder as it was."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} if folder.exists() else None
    with pytest.raises(ValueError, match=message):
        start(records, folder, config, info)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} if folder.exists() else None
    assert after == before


def interrupt_at(step: int):
    """Returns a progress that raises when so many examples of the second epoch are done."""

    class Progress:
        def __init__(self, label, total):
            self.second = label.startswith("epoch 2")

        def __enter__(self):
            return self.report

        def __exit__(self, *_):
            return False

        def report(self, done, words=""):
            if self.second and done == step * CONFIG.global_batch_size:
                raise KeyboardInterrupt

    return Progress


def without_timings(history: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name not in TIMINGS} for row in history]
