"""A run of --task classify: what it scores, what it is called, what it refuses."""

import contextlib
import csv
import dataclasses
import json
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from imaging.codec import encode_png
from inference.run import load_run
from model.config import ModelConfig
from model.labels import Labels
from model.loss_config import LossConfig
from model.metrics import Overlap, count_pixels
from records.config import InputConfig
from records.input_pipeline import train_batches
from records.schema import IGNORE, IGNORE_BIT
from tests.records.conftest import made_record, write_made_records
from tests.training.keyed_records import CONFIG, FOREGROUND, KEYS, VALIDATION, keys_of, opened
from tests.training.runs import interrupt_at, refuse, start, without_timings
from tests.training.scans import write_scans
from training.compatibility import check_fits
from training.config import TrainConfig
from training.optimizer_config import OptimizerConfig
from training.run_folder import RunFolder
from training.task import make_task
from training.workers import Workers

CLASSIFY = dataclasses.replace(CONFIG, task="classify", optimizer=OptimizerConfig(average="ema", ema_decay=0.5))


@pytest.fixture(scope="module")
def finished(records, tmp_path_factory):
    """(run, state, told) of an uninterrupted run of CLASSIFY."""
    run = RunFolder(tmp_path_factory.mktemp("classify") / "run")
    return run, *start(records[0], run.path, CLASSIFY, records[1])


def test_scores_are_called_accuracy_and_f1_everywhere(finished):
    run, state, told = finished
    with run.history.open() as file:
        names = next(csv.reader(file))
    shown = " ".join([*names, *told])
    assert {"accuracy", "f1", "val_accuracy", "val_f1", "loss", "val_loss"} <= set(names)
    assert "dice" not in shown.lower() and "iou" not in shown
    assert [line for line in told if "val loss" in line and " f1 " in line and " accuracy " in line]
    tags = {
        value.tag
        for path in run.tensorboard.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert {"epoch/val_f1", "epoch/val_accuracy"} <= tags
    assert not [tag for tag in tags if "dice" in tag or "image, truth" in tag]
    assert (run.plots / "curves.png").is_file()
    assert state.best_score == max(row["val_f1"] for row in state.history)


def test_the_saved_model_scores_what_its_best_epoch_says(records, finished, tmp_path):
    run, state, _ = finished
    trained = load_run(run)
    assert (trained.task, trained.multiple) == ("classify", 2)
    assert json.loads(run.config.read_text())["train"]["task"] == "classify"
    keys, probabilities = [], []
    with opened(records, tmp_path / "read") as data:
        for batch in data.validation_batches():
            real = batch["weight"].numpy() > 0
            keys += keys_of(batch["image"].numpy()[real])
            probabilities += tf.sigmoid(trained.model(batch["image"]))[:, 0, 0, 0].numpy()[real].tolist()
    assert sorted(keys) == VALIDATION
    found, true = np.array(probabilities) >= 0.5, np.array([key in FOREGROUND for key in keys])
    best = state.history[state.best_epoch]
    assert best["val_accuracy"] == pytest.approx((found == true).mean())
    wrong = (found != true).sum()
    assert best["val_f1"] == pytest.approx(2 * (found & true).sum() / max(1, 2 * (found & true).sum() + wrong))


def test_a_classifier_resumes_exactly(records, finished, tmp_path):
    folder, info = records
    with pytest.raises(KeyboardInterrupt):
        start(folder, tmp_path / "run", CLASSIFY, info, progress=interrupt_at(1))
    resumed, told = start(folder, tmp_path / "run", CLASSIFY, info)
    assert told[0].startswith("going on from epoch 2, step 1 (")
    for found, wanted in zip(without_timings(resumed.history), without_timings(finished[1].history), strict=True):
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_accuracy_and_f1_are_those_of_hand_counted_answers(records):
    task = make_task(CLASSIFY, records[1])
    # Right, wrong, wrong, right; of the last nothing is known.
    masks = np.zeros([5, 2, 2], np.uint8)
    masks[:2, 0, 0] = 1
    masks[4] = IGNORE
    logits = np.reshape([3.0, -1.0, 2.0, -2.0, 5.0], [5, 1, 1, 1]).astype(np.float32)
    targets, known = task.target(tf.constant(masks))
    np.testing.assert_array_equal(known, [1, 1, 1, 1, 0])
    predicted = task.labels.classify(task.labels.probabilities(logits), 0.5)
    overlap = Overlap(len(task.classes))
    overlap.update_state(count_pixels(task.labels, targets, predicted, task.classes), known)
    scores = task.name_scores(overlap.result(), "val_")
    assert scores == {"val_accuracy": pytest.approx(2 / 4), "val_f1": pytest.approx(2 / (2 + 1 + 1))}
    assert task.monitored == "val_f1"
    assert task.describe_scores(scores, "val_") == "f1 0.5000  accuracy 0.5000"


def test_images_of_which_nothing_is_known_count_in_no_score(tmp_path):
    def record(key):
        fill = IGNORE if key in ("d1", "d2") else key in FOREGROUND
        mask = np.full((6, 10), fill, np.uint8)
        return made_record(key, "raw", mask=encode_png(mask), instances=None, objects=None)

    shards = {split: [[record(key) for key in shard] for shard in KEYS[split]] for split in KEYS}
    info = write_made_records(tmp_path / "records", shards)
    config = dataclasses.replace(CLASSIFY, epochs=1)
    state, _ = start(tmp_path / "records", tmp_path / "run", config, info)
    model = keras.models.load_model(tmp_path / "run" / "model.keras", compile=False)
    known = [record for shard in shards["val"] for record in shard if record.source_id not in ("d1", "d2")]
    images = np.stack([np.frombuffer(each.image, np.uint8).reshape(6, 10, 3) for each in known])
    logits = model(images).numpy()[:, 0, 0, 0]
    true = np.array([each.source_id in FOREGROUND for each in known])
    assert len(true) == 3
    assert state.history[0]["val_accuracy"] == pytest.approx(((logits >= 0) == true).mean())
    entropy = np.log1p(np.exp(-np.where(true, logits, -logits)))
    dice = np.where(true, 1 - 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(-logits)))
    dice /= np.where(true, 2 + 1 / (1 + np.exp(-logits)), 1 + dice)  # of one pixel, with a smoothing of 1
    assert state.history[0]["val_loss"] == pytest.approx((entropy + dice).mean(), rel=1e-4)


def test_overlapping_classes_are_asked_for_together(tmp_path):
    info = write_scans(tmp_path / "scans")
    task = make_task(dataclasses.replace(CLASSIFY, input=InputConfig(fold=1)), info)
    masks = np.reshape(np.array([0, 1, 4, 1 | IGNORE_BIT], np.uint16), [4, 1, 1])
    targets, known = task.target(tf.constant(masks))
    np.testing.assert_array_equal(targets[:, 0, 0], [0, 1, 1, IGNORE])
    np.testing.assert_array_equal(known, [1, 1, 1, 0])
    assert (task.labels, task.classes) == (Labels(2), [1])


def test_crops_are_labelled_by_what_they_show(tmp_path):
    mask = np.zeros((32, 32), np.uint8)
    mask[:8, :8] = 1
    pixels = np.repeat(mask[..., None] * 200, 3, 2)

    def record(key):
        image, truth = pixels.tobytes(), encode_png(mask)
        sizes = {"height": 32, "width": 32, "crop": (0, 0, 32, 32), "instances": None, "objects": None}
        return made_record(key, "raw", image=image, mask=truth, **sizes)

    shards = {"train": [[record(f"a{n}") for n in range(8)]], "val": [[record("b0")]]}
    info = write_made_records(tmp_path / "records", shards, height=32, width=32)
    config = dataclasses.replace(CLASSIFY, input=InputConfig(crop=8))
    task = make_task(config, info)
    files = info.shard_files(str(tmp_path / "records"), ["train"])
    answers = set()
    for batch in train_batches(files, info, 8, 0, config.input).take(8):
        found, _ = task.target(batch["mask"])
        np.testing.assert_array_equal(found[:, 0, 0], (batch["image"].numpy() > 0).any((1, 2, 3)))
        answers |= set(found.numpy().ravel().tolist())
    assert answers == {0, 1}


@pytest.mark.parametrize("task", ["segment", "classify"])
def test_validation_tiles_that_were_moved_back_are_labelled_by_all_they_show(tmp_path, task):
    mask = np.zeros((20, 20), np.uint8)
    mask[8:12, 8:12] = 1  # in all four tiles of 16 pixels
    record = partial(made_record, image_format="raw", image=np.repeat(mask[..., None] * 200, 3, 2).tobytes())
    record = partial(record, mask=encode_png(mask), instances=None, objects=None)
    record = partial(record, height=20, width=20, crop=(0, 0, 20, 20))
    shards = {"train": [[record(f"a{n}") for n in range(4)]], "val": [[record("b0")]]}
    info = write_made_records(tmp_path / "records", shards, height=20, width=20)
    config = dataclasses.replace(CLASSIFY, task=task, input=InputConfig(crop=16))
    with opened((tmp_path / "records", info), tmp_path / "run", config) as data:
        (batch,) = data.validation_batches()
    np.testing.assert_array_equal(batch["weight"], np.ones(4))
    held = [(tile == 1).any() for tile in batch["mask"].numpy()]
    # Of pixels each counts once: the first tile has them all.
    assert held == ([True] * 4 if task == "classify" else [True, False, False, False])


@pytest.mark.parametrize(
    ("held", "crop", "message"),
    [
        ({"a0", "a1"}, None, "expected images with and without objects in split val, .* found 0 of 2 with one; prep"),
        ({"a0", "a1"}, 2, "expected images with and without objects in split val, .* found 0 of 2 with one; prep"),
        ({"a0", "b0", "b1"}, None, "found 2 of 2 with one; preprocess with --splits.stratify"),
        ({"a0", "b0", "b1"}, 2, None),
        ({"a0", "b0"}, None, None),
    ],
)
def test_a_validation_of_one_kind_alone_is_refused(tmp_path, held, crop, message):
    def record(key):
        mask = np.resize(np.array([0, 1 if key in held else 0], np.uint8), (6, 10))
        return made_record(key, "raw", mask=encode_png(mask), instances=None, objects=None)

    shards = {"train": [[record(f"a{n}") for n in range(4)]], "val": [[record("b0"), record("b1")]]}
    info = write_made_records(tmp_path / "records", shards)
    config = dataclasses.replace(CLASSIFY, input=InputConfig(crop=crop))
    workers = Workers(tf.distribute.get_strategy())
    check_fits(str(tmp_path / "records"), info, dataclasses.replace(config, task="segment"), workers)
    with pytest.raises(ValueError, match=message) if message else contextlib.nullcontext():
        check_fits(str(tmp_path / "records"), info, config, workers)


REFUSED = [
    (
        {"model": ModelConfig(decoder="unetpp")},
        "model.decoder: found unetpp, which only the decoder of --task segment reads; leave",
    ),
    ({"model": ModelConfig(attention=True)}, "model.attention: found True, which only the"),
    ({"model": ModelConfig(deep_supervision=True)}, "model.deep_supervision: found True, which only the decoder"),
    ({"model": ModelConfig(upsampling="transpose")}, "model.upsampling: found transpose, which only the decoder"),
    (
        {"model": ModelConfig(encoder="resnet34", depth=5, filters=32)},
        "model.filters: found 32, which only the decoder",
    ),
    (
        {"model": ModelConfig(encoder="resnet50v2", depth=5, activation="swish")},
        "model.activation: found swish, which only the decoder",
    ),
    (
        {"model": ModelConfig(encoder="resnet50v2", depth=5, norm="group")},
        "model.norm: found group, which only the decoder of --task segment reads",
    ),
    (
        {"model": ModelConfig(encoder="convnexttiny", depth=5, norm="sync_batch")},
        "model.norm: found sync_batch, which only the decoder of --task segment reads",
    ),
    (
        {"model": ModelConfig(encoder="convnexttiny", depth=5, norm_momentum=0.9)},
        "model.norm_momentum: found 0.9, which only the decoder of --task segment reads",
    ),
    ({"loss": LossConfig({"bce": 1.0, "lovasz": 1.0})}, "loss.terms: expected losses of single .* found lovasz"),
    ({"loss": LossConfig({"boundary": 1.0})}, "loss.terms: expected losses of single answers .* found boundary"),
    ({"loss": LossConfig(class_weights="balanced")}, "class_weights: found balanced, .*foreground_share 0.5, or give"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_settings_that_a_classifier_has_no_use_for_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(task="classify", **settings)
    TrainConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"model": ModelConfig(filters=32, activation="swish", norm="group")},
        {"model": ModelConfig(encoder="resnet34", depth=5, activation="swish", norm="group")},
        {"model": ModelConfig(encoder="resnet50v2", depth=5, norm="sync_batch", dropout=0.3, norm_momentum=0.9)},
        {"loss": LossConfig({"focal": 1.0}, class_weights=[1.0, 2.0], focal_alpha=None)},
        {"loss": LossConfig({"tversky": 1.0}, tversky_alpha=0.7)},
    ],
)
def test_settings_that_a_classifier_reads_are_not(settings):
    assert TrainConfig(task="classify", **settings).task == "classify"


def test_class_weights_are_two_whatever_the_records_classes(tmp_path):
    info = write_scans(tmp_path / "scans")
    config = dataclasses.replace(
        CLASSIFY, input=InputConfig(fold=1, crop=16), loss=LossConfig({"bce": 1.0}, class_weights=[1.0] * 3)
    )
    (tmp_path / "run").mkdir()
    refuse("loss.class_weights: expected 2 numbers", tmp_path / "scans", tmp_path / "run", config, info)


def test_records_without_a_background_are_refused(records):
    folder, info = records
    info = dataclasses.replace(info, classes=["road", "car", "sky"])
    with pytest.raises(ValueError, match="task: expected a background .* found the classes road, car, sky"):
        check_fits(str(folder), info, CLASSIFY, Workers(tf.distribute.get_strategy()))
