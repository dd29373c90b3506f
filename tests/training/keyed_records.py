"""Records whose examples tell their keys, a small run on them, and what its input gives."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from imaging.codec import encode_png
from model.config import AugmentConfig, ModelConfig
from records.config import InputConfig
from records.info import RecordsInfo
from records.schema import Record, decode_pixels, encode
from records.shards import FRAME_BYTES
from tests.conftest import silent_progress
from tests.records.conftest import made_record, write_made_records
from tests.training.events import step_losses
from tests.training.runs import without_timings
from training.config import TrainConfig
from training.run_folder import RunFolder
from training.run_input import RunInput, open_input
from training.workers import Workers

KEYS = {"train": [["a0", "a1", "a2", "a3", "a4"], ["b0", "b1", "b2", "b3"], ["c0", "c1", "c2"]]}
KEYS["val"] = [["d0", "d1", "d2"], ["e0", "e1"]]
TRAINING, VALIDATION = (sorted(key for shard in KEYS[split] for key in shard) for split in KEYS)
FOREGROUND = {"a1", "b0", "c2", "d0", "e0"}
# Dropout is on, so that a resume has something to get wrong.
CONFIG = TrainConfig(
    epochs=2,
    global_batch_size=4,
    checkpoint_minutes=0,
    model=ModelConfig(depth=1, filters=2, dropout=0.2),
    augment=AugmentConfig.none(),
    input=InputConfig(cache_mib=0),
)
STREAMED, IN_MEMORY, IN_FILE = {"cache_mib": 0}, {}, {"cache_mib": 0, "cache_file_mib": 9}


def with_input(config: TrainConfig = CONFIG, **settings) -> TrainConfig:
    return dataclasses.replace(config, input=InputConfig(**settings))


def a_record(key: str, seed: str = "") -> Record:
    """Returns a record whose pixels depend on key and seed, and its length on neither."""
    mask = np.resize(np.array([0, 1] if key in FOREGROUND else [0], np.uint8), (6, 10))
    image = made_record(key + seed, "raw").image
    return made_record(key, "raw", image=image, mask=encode_png(mask), instances=None, objects=None)


def write_records(folder: Path, seed: str = "", drop: tuple[str, ...] = ()) -> RecordsInfo:
    """Writes records of KEYS, with offsets.parquet but for the columns to be dropped."""
    records = {split: [[a_record(key, seed) for key in shard] for shard in KEYS[split]] for split in KEYS}
    info = write_made_records(folder, records)
    rows = []
    for split in KEYS:
        for shard, held in zip(info.shards(split), records[split], strict=True):
            offset = 0
            for position, record in enumerate(held):
                classes = [0, 1] if record.source_id in FOREGROUND else [0]
                rows.append((record.source_id, split, shard.name, position, offset, classes))
                offset += len(encode(record)) + FRAME_BYTES
    table = pd.DataFrame(rows, columns=["key", "split", "shard", "position", "offset", "classes"])
    table.drop(columns=list(drop)).to_parquet(folder / "offsets.parquet", index=False)
    return info


def opened(
    records: tuple[Path, RecordsInfo],
    run: Path,
    config: TrainConfig = CONFIG,
    told: list | None = None,
    workers: Workers | None = None,
):
    folder, info = records
    tell = [].append if told is None else told.append
    workers = workers or Workers(tf.distribute.get_strategy())
    return open_input(str(folder), info, RunFolder(run), config, workers, silent_progress, tell)


def keys_of(images: np.ndarray) -> list[str]:
    keys = {decode_pixels(a_record(key), "uint8").tobytes(): key for key in TRAINING + VALIDATION}
    return [keys[image.tobytes()] for image in images]


def epoch_keys(data: RunInput, epoch: int) -> list[str]:
    batches = data.training_batches(epoch, 0).take(data.steps)
    return keys_of(np.concatenate([batch["image"] for batch in batches.as_numpy_iterator()]))


def assert_same_run(run: RunFolder, state, finished) -> None:
    expected_run, expected, _ = finished
    losses, expected_losses = step_losses(run.tensorboard), step_losses(expected_run.tensorboard)
    assert losses.keys() == expected_losses.keys() == set(range(6))
    # Without op determinism threads may add in another order.
    np.testing.assert_allclose([losses[n] for n in range(6)], [expected_losses[n] for n in range(6)], rtol=1e-5)
    for row, wanted in zip(without_timings(state.history), without_timings(expected.history), strict=True):
        assert row == pytest.approx(wanted, rel=1e-4, abs=1e-5)
