"""Records of overlapping classes, folds, a window and raw pixels, from the first batch to the last score."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from evaluation.config import EvalConfig
from evaluation.evaluator import evaluate
from imaging.codec import decode_mask
from inference.run import load_run
from model.config import AugmentConfig, ModelConfig
from records.config import InputConfig
from records.schema import decode, decode_pixels
from records.shards import read_shard
from records.verify import verify
from tests.conftest import predictor_of, silent_progress
from tests.training.scans import CLASSES, FOLDS, write_scans
from training.config import TrainConfig
from training.run import train
from training.run_folder import RunFolder

CONFIG = TrainConfig(
    epochs=10,
    global_batch_size=2,
    learning_rate=1e-2,
    model=ModelConfig(depth=1, filters=8, norm_momentum=0.9, dropout=0.0, window=(-1100.0, 0.0)),
    input=InputConfig(fold=1),
    augment=AugmentConfig(brightness=0.0, contrast=0.0),
)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """(folder, info) of the scans; read only."""
    folder = tmp_path_factory.mktemp("scans")
    return folder, write_scans(folder)


@pytest.fixture(scope="module")
def trained(records, tmp_path_factory):
    """(run, state) of a training that validated on fold1; read only."""
    folder, info = records
    run = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    strategy = tf.distribute.get_strategy()
    return run, train(str(folder), info, run, CONFIG, strategy, silent_progress, lambda line: None)


@pytest.fixture(scope="module")
def judged(records, trained, tmp_path_factory):
    """(metrics, folder) of the fold that was validated on; read only."""
    folder = tmp_path_factory.mktemp("eval")
    return judge(trained[0], *records, folder, pictures=1), folder


def judge(run, folder, info, where, **settings):
    config = EvalConfig(split="fold1", batch_size=3, **settings)
    return evaluate(predictor_of(load_run(run)), str(folder), info, where, config, silent_progress)


def scans_of(folder, info, split):
    return [decode(data) for shard in info.shards(split) for data in read_shard(str(folder / shard.name))]


def test_the_scans_are_sound_records(records):
    folder, info = records
    assert list(verify(str(folder), info, lambda done: None)) == []


def test_overlapping_classes_are_learned(trained, judged):
    _, state = trained
    metrics, _ = judged
    assert state.history[0]["loss"] > 2 * state.history[-1]["loss"]
    assert metrics["dice_per_image"] > 0.9
    assert all(metrics[f"dice_per_image/{name}"] > 0.85 for name in CLASSES)
    assert metrics["dice_per_image"] == pytest.approx(np.mean([metrics[f"dice_per_image/{name}"] for name in CLASSES]))


def test_the_models_file_scores_what_the_best_epoch_scored(trained, judged):
    _, state = trained
    metrics, _ = judged
    assert metrics["num_examples"] == FOLDS["fold1"]
    for name in ("dice_per_image", "dice_nonempty", "dice_pooled", "iou_per_image", "iou_nonempty", "iou_pooled"):
        assert metrics[name] == pytest.approx(state.history[state.best_epoch][f"val_{name}"], abs=1e-5)


def test_the_scores_are_those_of_the_predicted_bits(records, trained, judged):
    folder, info = records
    metrics, where = judged
    predictor = predictor_of(load_run(trained[0]))
    right, decisions = 0, 0
    table = pd.read_csv(where / "per_image.csv").set_index("source_id")
    for scan in scans_of(folder, info, "fold1"):
        truth = decode_mask(scan.mask)
        known = truth < 2**15
        found = predictor.mask(decode_pixels(scan, "uint16"))
        for bit, name in enumerate(CLASSES):
            true, guess = (truth[known] >> bit) % 2, (found[known] >> bit) % 2
            counts = [(true * guess).sum(), (guess * (1 - true)).sum(), (true * (1 - guess)).sum()]
            # A pixel at the threshold may fall on either side in another batch.
            assert table.loc[scan.source_id, [f"tp/{name}", f"fp/{name}", f"fn/{name}"]].tolist() == pytest.approx(
                counts, abs=1
            )
            right, decisions = right + (true == guess).sum(), decisions + known.sum()
    assert metrics["pixel_accuracy"] == pytest.approx(right / decisions, abs=1e-3)


def test_pictures_and_metrics_are_written(judged):
    metrics, where = judged
    assert json.loads((where / "metrics.json").read_text()) == metrics
    assert len(list((where / "result-image").iterdir())) == 3


def test_the_window_hides_what_lies_outside_of_it(records, trained):
    folder, info = records
    pixels = decode_pixels(scans_of(folder, info, "fold1")[0], "uint16")
    model = load_run(trained[0]).model
    low, high = (value + 32768 for value in CONFIG.model.window)
    brighter = np.where(pixels > high, 65535, pixels)
    darker = np.where(brighter < low, 0, brighter)
    np.testing.assert_array_equal(model(darker[None]), model(pixels.clip(low, high)[None]))


def test_unlabelled_scans_get_bit_fields_as_predictions(records, trained, tmp_path):
    folder, info = records
    # The names of unlabelled records' classes do not matter: pictures show the model's.
    bare = dataclasses.replace(info, labeled=False, classes=["background", "object"], overlapping=False)
    metrics = judge(trained[0], folder, bare, tmp_path, pictures=1)
    assert metrics == {"num_examples": FOLDS["fold1"], "threshold": 0.5}
    predictor = predictor_of(load_run(trained[0]))
    for scan in scans_of(folder, info, "fold1"):
        found = decode_mask((tmp_path / "predictions" / f"{scan.source_id}.png").read_bytes())
        assert found.dtype == np.uint16
        expected = predictor.mask(decode_pixels(scan, "uint16"))
        assert np.mean(found != expected) < 0.01
    assert len(list((tmp_path / "result-image").iterdir())) == 3


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        (None, r"these records have 3 folds; say which one validates"),
        (3, r"input\.fold: expected 0 to 2, found 3"),
    ],
)
def test_a_fold_that_is_not_there_is_refused_before_anything_is_written(records, tmp_path, fold, message):
    folder, info = records
    config = dataclasses.replace(CONFIG, input=InputConfig(fold=fold))
    with pytest.raises(ValueError, match=message):
        train(
            str(folder), info, RunFolder(tmp_path / "run"), config, tf.distribute.get_strategy(), silent_progress, str
        )
    assert not (tmp_path / "run").exists()


def test_another_fold_or_window_needs_another_run_folder(records, trained):
    folder, info = records
    run, _ = trained
    model = dataclasses.replace(CONFIG.model, window=(-500.0, 0.0))
    config = dataclasses.replace(CONFIG, input=InputConfig(fold=2), model=model)
    message = r"model.window: \[-1100.0, 0.0\] there, \[-500.0, 0.0\] here, input.fold: 1 there, 2 here"
    with pytest.raises(ValueError, match=message):
        train(str(folder), info, run, config, tf.distribute.get_strategy(), silent_progress, str)
