"""Calibration against plain computations: what is counted on the device, and what is made of it."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.calibration import calibration_curve

from evaluation.calibration import BINS, calibration_error, calibration_table, summarize_calibration
from evaluation.config import EvalConfig
from evaluation.evaluator import evaluate
from evaluation.probability_counts import count_probabilities
from model.labels import Labels
from records.info import read_info
from tests.conftest import predictor_of, silent_progress
from tests.evaluation.test_evaluator import bright_pixels, read_split


def test_the_error_of_a_case_worked_by_hand():
    bins = np.zeros((BINS, 3))
    bins[0] = 60, 3.0, 6  # 60 pixels of 0.05 on average, of which a tenth is of the class
    bins[9] = 40, 38.0, 30  # 40 of 0.95, of which three quarters are
    assert calibration_error(bins) == pytest.approx(0.6 * 0.05 + 0.4 * 0.20)
    assert calibration_error(np.zeros((BINS, 3))) is None
    scores = summarize_calibration(np.stack([bins, np.zeros_like(bins)]), ["cell", "gap"])
    assert scores == {
        "calibration_error": pytest.approx(0.11),
        "calibration_error/cell": pytest.approx(0.11),
        "calibration_error/gap": None,
    }
    table = calibration_table(bins[None], ["cell"])
    assert table.to_dict("records") == [
        {"class": "cell", "low": 0.0, "high": 0.1, "pixels": 60, "probability": 0.05, "true": 0.1},
        {"class": "cell", "low": 0.9, "high": 1.0, "pixels": 40, "probability": 0.95, "true": 0.75},
    ]


def test_a_model_that_knows_how_sure_it_is_has_no_error():
    generator = np.random.default_rng(0)
    probabilities = generator.random((4, 300, 300, 1), np.float32)
    truth = (generator.random((4, 300, 300)) < probabilities[..., 0]).astype(np.uint8)
    count = count_probabilities(Labels(2), [1])
    right = count(tf.constant(probabilities), tf.constant(truth))["calibration"].numpy().sum((0, 1))
    assert calibration_error(right) < 0.01
    sure = count(tf.constant(np.round(probabilities)), tf.constant(truth))["calibration"].numpy().sum((0, 1))
    assert calibration_error(sure) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(
    ("labels", "classes"), [(Labels(2), [1]), (Labels(4), [1, 2, 3]), (Labels(3, True), [0, 1, 2])]
)
def test_pixels_are_counted_by_their_probability_and_ignored_ones_are_not(labels, classes):
    generator = np.random.default_rng(1)
    probabilities = generator.random((3, 12, 15, labels.outputs), np.float32)
    probabilities[0, 0, :3] = [[0.0], [1.0], [0.5]]
    high = 2**labels.num_classes if labels.overlapping else labels.num_classes
    masks = generator.integers(0, high, (3, 12, 15)).astype(np.uint16 if labels.overlapping else np.uint8)
    masks[1, 4:9] = 2**15 if labels.overlapping else 255
    counted = count_probabilities(labels, classes)(tf.constant(probabilities), tf.constant(masks))[
        "calibration"
    ].numpy()
    assert counted.shape == (3, len(classes), BINS, 3)
    for image in range(3):
        known = masks[image] < 2**15 if labels.overlapping else masks[image] != 255
        for column, number in enumerate(classes):
            one = probabilities[image][..., number if labels.softmax else column][known]
            true = ((masks[image] >> number) % 2 if labels.overlapping else masks[image] == number)[known]
            bins = np.minimum((one * BINS).astype(int), BINS - 1)
            for index in range(BINS):
                inside = bins == index
                expected = [inside.sum(), one[inside].sum(dtype=np.float64), true[inside].sum()]
                np.testing.assert_allclose(counted[image, column, index], expected, rtol=1e-6)


def test_an_evaluation_writes_the_curve_that_scikit_learn_draws(nuclei_records, tmp_path):
    info = read_info(str(nuclei_records))
    model = bright_pixels(info)
    tables, scores = [], []
    for batch_size in (1, 4):
        config = EvalConfig(split="train", batch_size=batch_size, pictures=0)
        folder = tmp_path / str(batch_size)
        predictor = predictor_of(model)
        scores.append(evaluate(predictor, str(nuclei_records), info, folder, config, silent_progress))
        tables.append(pd.read_csv(folder / "calibration.csv"))
    pd.testing.assert_frame_equal(*tables)
    assert scores[0]["calibration_error"] == pytest.approx(scores[1]["calibration_error"])
    found = read_split(nuclei_records, info, "train").values()
    images, masks = (np.stack(parts) for parts in zip(*found, strict=True))
    probabilities = 1 / (1 + np.exp(127.5 - images[..., 0].astype(np.float64)))
    known = masks != 255
    true, mean = calibration_curve(masks[known] == 1, probabilities[known], n_bins=BINS)
    np.testing.assert_allclose(tables[0]["true"], true, atol=1e-6)
    np.testing.assert_allclose(tables[0]["probability"], mean, atol=1e-6)
    assert tables[0]["pixels"].sum() == known.sum()
