"""Scores of a classifier's answers."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tensorflow import keras

from evaluation.classification import average_precision, classification_scores, evaluate_classifier
from evaluation.config import EvalConfig
from evaluation.terminal import classification_table
from imaging.codec import decode_image, decode_mask, encode_png
from inference.run import TrainedModel
from preprocess.config import Splits
from records.info import RecordsInfo, read_info
from records.schema import IGNORE, decode
from records.shards import read_shard
from tests.conftest import make_records, silent_progress
from tests.records.conftest import made_record, write_made_records


def test_average_precision_of_a_hand_made_ranking():
    # Ranked: yes, no, yes, no, yes: precision at each yes is 1, 2/3 and 3/5.
    probabilities = np.array([0.3, 0.9, 0.5, 0.7, 0.1])
    truths = np.array([False, True, True, False, True])
    assert average_precision(probabilities, truths) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_equal_probabilities_are_one_threshold_in_any_order():
    probabilities = np.array([0.9, 0.5, 0.5, 0.1])
    # At 0.9: nothing; at 0.5 and above 1 of 3; at 0.1 and above 2 of 4.
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        truths = np.array([False, True, False, True])[order]
        assert average_precision(probabilities[order], truths) == pytest.approx(0.5 * 1 / 3 + 0.5 * 2 / 4)


def test_average_precision_of_one_kind_alone():
    assert average_precision(np.array([0.1, 0.9]), np.array([False, False])) is None
    assert average_precision(np.array([0.1, 0.9]), np.array([True, True])) == 1.0


def test_scores_of_hand_counted_answers():
    probabilities = np.array([0.9, 0.5, 0.6, 0.2, 0.4])
    truths = np.array([True, True, False, False, True])
    scores = classification_scores(probabilities, truths, np.arange(5), threshold=0.5)
    assert {name: scores[name] for name in ("tp", "fp", "fn", "tn")} == {"tp": 2, "fp": 1, "fn": 1, "tn": 1}
    expected = {"accuracy": 3 / 5, "precision": 2 / 3, "recall": 2 / 3, "f1": 4 / 6}
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    for name in expected:
        low, high = scores[f"{name}_ci95"]
        assert 0 <= low <= scores[name] <= high <= 1
    strict = classification_scores(probabilities, truths, np.arange(5), threshold=0.95)
    assert (strict["precision"], strict["recall"], strict["f1"]) == (None, 0.0, 0.0)


def test_scores_of_no_answers_are_none():
    scores = classification_scores(np.array([]), np.array([], bool), np.array([], str), 0.5)
    assert scores["accuracy"] is scores["average_precision"] is scores["f1_ci95"] is None
    assert scores["tp"] == 0


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """(folder, info) of images in a test split alone: some with bright objects, one ignored, one with a bright fake."""
    folder = tmp_path_factory.mktemp("classification")
    for name in ("images", "masks"):
        (folder / "raw" / name).mkdir(parents=True)
    for number in range(9):
        generator = np.random.default_rng(number)
        image, mask = generator.integers(0, 100, [16, 16, 3]).astype(np.uint8), np.zeros([16, 16], np.uint8)
        if number < 4:
            mask[3:6, 9:12] = 1
            image[3:6, 9:12] = 150 + 20 * number if number else 110  # the first is hard to see
        if number == 4:
            image[12, 3] = 230
        if number == 5:
            mask[:] = IGNORE
        (folder / "raw" / "images" / f"i{number}.png").write_bytes(encode_png(image))
        (folder / "raw" / "masks" / f"i{number}.png").write_bytes(encode_png(mask))
    splits = Splits(0.0, 0.0, 1.0)
    classes = ["background", "thing"]
    make_records("folder", folder / "raw", folder / "records", size=16, classes=classes, splits=splits)
    return folder / "records", read_info(str(folder / "records"))


def brightest(info: RecordsInfo, crop: int | None = None) -> TrainedModel:
    """Sure from brightness 120 on."""
    inputs = keras.Input([None, None, 3])
    largest = keras.layers.GlobalMaxPooling2D(keepdims=True)(inputs[..., :1])
    model = keras.Model(inputs, keras.layers.Rescaling(0.05, -6.0)(largest))
    return TrainedModel(model, info.classes, info.channels, info.dtype, info.fingerprint, crop=crop, task="classify")


def judge(records, folder, crop=None, **changes) -> dict:
    path, info = records
    config = EvalConfig(**{"batch_size": 4, "pictures": 2, **changes})
    how = (tf.distribute.get_strategy(), silent_progress)
    return evaluate_classifier(brightest(info, crop), str(path), info, folder, config, *how)


def expected_answers(records, size: int) -> dict:
    """Returns (brightest value, truth or None) by (key, y, x) of the tiles of this size, read without TensorFlow."""
    path, info = records
    answers = {}
    for shard in info.shards("test"):
        for record in map(decode, read_shard(str(path / shard.name))):
            image, mask = decode_image(record.image)[..., 0], decode_mask(record.mask)
            for y in range(0, 16, size):
                for x in range(0, 16, size):
                    part = mask[y : y + size, x : x + size]
                    truth = None if (part == IGNORE).all() else bool((part == 1).any())
                    answers[record.source_id, y, x] = int(image[y : y + size, x : x + size].max()), truth
    return answers


@pytest.mark.parametrize("size", [16, 8])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_scores_are_those_of_the_images_or_tiles(records, tmp_path, size, batch_size):
    crop = None if size == 16 else size
    metrics = judge(records, tmp_path, crop, batch_size=batch_size)
    expected = expected_answers(records, size)
    known = [(value >= 120, truth) for value, truth in expected.values() if truth is not None]
    assert metrics["num_examples"] == 9
    assert metrics["num_judged"] == len(expected) == 9 * (16 // size) ** 2
    assert metrics["accuracy"] == pytest.approx(np.mean([found == truth for found, truth in known]))
    assert (metrics["fp"], metrics["fn"], metrics["tp"]) == (1, 1, 3)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    table = pd.read_csv(tmp_path / "per_image.csv")
    assert len(table) == len(expected)
    for row in table.to_dict("records"):
        value, truth = expected[row["source_id"], row.get("y", 0), row.get("x", 0)]
        assert row["probability"] == pytest.approx(1 / (1 + np.exp(6 - 0.05 * value)), rel=1e-4)
        assert np.isnan(row["truth"]) if truth is None else row["truth"] == truth
    table = classification_table(metrics, "RUN")
    assert table.title == f"RUN: {metrics['num_judged']} answers"
    assert f"right: 3 with, {metrics['tn']} without; wrong: 1 false alarms, 1 misses" in table.caption
    scores = dict(zip(*(list(column.cells) for column in table.columns[:2]), strict=True))
    assert (scores["accuracy"], scores["recall"]) == (f"{metrics['accuracy']:.4f}", "0.7500")


def test_a_tile_that_was_moved_back_is_judged_by_all_it_shows(tmp_path):
    mask, shown = np.zeros((20, 20), np.uint8), (slice(8, 12), slice(8, 12))  # in all four tiles of 16 pixels
    mask[shown] = 1
    image = np.repeat(mask[..., None] * 200, 3, 2)
    sizes = {"height": 20, "width": 20, "crop": (0, 0, 20, 20), "instances": None, "objects": None}
    record = made_record("a0", "raw", image=image.tobytes(), mask=encode_png(mask), **sizes)
    info = write_made_records(tmp_path / "records", {"test": [[record]]}, height=20, width=20)
    metrics = judge((tmp_path / "records", info), tmp_path / "out", crop=16, pictures=0)
    assert (metrics["num_judged"], metrics["tp"]) == (4, 4)


def test_the_surest_mistakes_are_drawn(records, tmp_path):
    judge(records, tmp_path)
    names = sorted(path.name for path in (tmp_path / "result-image").iterdir())
    assert [name[: name.index("-0")] for name in names] == ["false-alarm", "missed"]
    assert names[0].startswith("false-alarm-01-") and "i4" in names[0]
    assert names[1].startswith("missed-01-") and "i0" in names[1]
    judge(records, tmp_path, crop=8)
    assert len(list((tmp_path / "result-image").iterdir())) == 2
    judge(records, tmp_path, pictures=0)
    assert not list((tmp_path / "result-image").iterdir())


def test_unlabelled_records_get_probabilities_alone(tmp_path):
    (tmp_path / "raw" / "images").mkdir(parents=True)
    for number in range(3):
        image = np.full([16, 16, 3], 40 * number, np.uint8)
        (tmp_path / "raw" / "images" / f"{number}.png").write_bytes(encode_png(image))
    make_records("folder", tmp_path / "raw", tmp_path / "records", size=16, unlabeled=True, classes=["background", "a"])
    info = read_info(str(tmp_path / "records"))
    metrics = judge((tmp_path / "records", info), tmp_path / "out")
    assert metrics == {"num_examples": 3, "num_judged": 3, "threshold": 0.5}
    table = pd.read_csv(tmp_path / "out" / "per_image.csv")
    assert list(table) == ["source_id", "group", "probability"]


def test_overlapping_classes_count_together(records):
    from evaluation.classification import _answers

    trained = dataclasses.replace(brightest(records[1]), classes=["a", "b"], overlapping=True)
    masks = np.array([0, 1, 2, 3, 1 << 15, 1 << 15 | 1], np.uint16)[:, None, None]
    names = np.array([b"x"] * 6)
    batch = {"source_id": names, "group": names, "probability": np.zeros(6, np.float32), "mask": masks}
    truths = _answers(trained, batch)["truth"]
    assert truths[:4].tolist() == [0, 1, 1, 1]
    assert truths[4:].isna().all()
