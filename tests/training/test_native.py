"""Training on random crops of records that keep their images' sizes, and judging the result."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from evaluation.config import EvalConfig
from evaluation.evaluator import evaluate
from imaging.codec import decode_image, decode_mask, encode_png
from inference.run import check_fits, load_run
from model.config import ModelConfig
from preprocess.config import Splits
from records.config import InputConfig
from records.info import read_info
from records.schema import decode
from records.shards import read_shard
from tests.conftest import make_records, predictor_of, silent_progress
from training.config import TrainConfig
from training.run import train
from training.run_folder import RunFolder
from training.state import TrainState

CONFIG = TrainConfig(
    epochs=2,
    global_batch_size=4,
    model=ModelConfig(depth=2, filters=4),
    input=InputConfig(crop=32, foreground_crops=0.5),
)


@pytest.fixture(scope="module")
def native_records(tmp_path_factory) -> Path:
    """Bright discs in JPEG and PNG images of several sizes, two of them smaller than a crop; read only."""
    folder = tmp_path_factory.mktemp("native")
    for name in ("images", "masks"):
        (folder / "raw" / name).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(20):
        height, width = (24, 40) if number < 2 else generator.integers(33, 70, 2).tolist()
        mask = np.zeros([height, width], np.uint8)
        centre = (int(generator.integers(width)), int(generator.integers(height)))
        cv2.circle(mask, centre, 10, 1, -1)
        image = (generator.integers(0, 60, [height, width, 3]) + 150 * mask[..., None]).astype(np.uint8)
        suffix = ".jpg" if number % 2 else ".png"
        (folder / "raw" / "images" / f"disc{number}{suffix}").write_bytes(cv2.imencode(suffix, image)[1].tobytes())
        (folder / "raw" / "masks" / f"disc{number}.png").write_bytes(encode_png(mask))
    make_records(
        "folder",
        folder / "raw",
        folder / "records",
        size=None,
        classes=["background", "disc"],
        splits=Splits(0.5, 0.25, 0.25),
    )
    return folder / "records"


def start(records: Path, folder: Path, config: TrainConfig = CONFIG) -> TrainState:
    strategy = tf.distribute.get_strategy()
    info = read_info(str(records))
    return train(str(records), info, RunFolder(folder), config, strategy, silent_progress, lambda line: None)


@pytest.fixture(scope="module")
def finished(native_records, tmp_path_factory) -> tuple[RunFolder, TrainState]:
    """An uninterrupted run of CONFIG."""
    folder = tmp_path_factory.mktemp("run") / "run"
    return RunFolder(folder), start(native_records, folder)


def test_a_run_on_crops_is_trained_and_judged_image_by_image(native_records, finished):
    run, state = finished
    assert [row["epoch"] for row in state.history] == [1, 2]
    assert all(np.isfinite(row["loss"]) and np.isfinite(row["val_loss"]) for row in state.history)
    info = read_info(str(native_records))
    assert info.height is None
    trained = load_run(run)
    assert trained.crop == 32
    check_fits(trained, info, "RUN", "RECORDS")
    config = EvalConfig(split="test", batch_size=4, pictures=1)
    folder = run.evaluation("test")
    predictor = predictor_of(trained)
    metrics = evaluate(predictor, str(native_records), info, folder, config, silent_progress)
    table = pd.read_csv(folder / "per_image.csv").set_index("source_id")
    records = [decode(data) for shard in info.shards("test") for data in read_shard(str(native_records / shard.name))]
    assert metrics["num_examples"] == len(records) == len(table) > 1
    for record in records:
        found = predictor.mask(decode_image(record.image)) == 1
        true = decode_mask(record.mask) == 1
        # One image at a time sums in another order than a batch: a pixel may cross the threshold.
        assert table.loc[record.source_id, "tp"] == pytest.approx((true & found).sum(), abs=2)
        assert table.loc[record.source_id, "fp"] == pytest.approx((~true & found).sum(), abs=2)
        assert table.loc[record.source_id, ["tp", "fn"]].sum() == true.sum()


@pytest.mark.slow
def test_a_run_on_crops_goes_on_as_if_it_had_not_stopped(native_records, finished, tmp_path):
    _, whole = finished

    class Stop(Exception):
        pass

    class Progress:
        def __init__(self, label, total):
            self.label = label

        def __enter__(self):
            return self.report

        def __exit__(self, *_):
            return False

        def report(self, done, words=""):
            if self.label.startswith("epoch 2") and done == 4:
                raise Stop

    config = dataclasses.replace(CONFIG, checkpoint_minutes=0)
    how = (tf.distribute.get_strategy(), Progress, lambda line: None)
    with pytest.raises(Stop):
        train(str(native_records), read_info(str(native_records)), RunFolder(tmp_path / "cut"), config, *how)
    resumed = start(native_records, tmp_path / "cut", config)
    for name in ("loss", "val_loss", "val_dice_per_image"):
        assert resumed.history[-1][name] == pytest.approx(whole.history[-1][name], rel=1e-4), name


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        (None, "expected images of one size, found several .*--input.crop 256, or preprocess with --size"),
        (30, r"multiples of 4 \(--model.depth 2\), found 30x30; choose --input.crop 32"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(native_records, tmp_path, crop, message):
    config = dataclasses.replace(CONFIG, input=InputConfig(crop=crop))
    with pytest.raises(ValueError, match=message):
        start(native_records, tmp_path / "run", config)
    assert not (tmp_path / "run").exists()
