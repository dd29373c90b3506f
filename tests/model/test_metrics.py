import math

import numpy as np
import pytest
import tensorflow as tf

from model.labels import IGNORE, IGNORE_BIT, Labels
from model.metrics import Overlap, count_pixels

EXCLUSIVE = Labels(4)
NAMES = ("dice_per_image", "dice_nonempty", "dice_pooled", "iou_per_image", "iou_nonempty", "iou_pooled")


def random_masks(seed: int, images: int = 9, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Returns (truth with ignored pixels, prediction); some images lack classes, two are empty in both."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes + 1, [images, 6, 5]).astype(np.uint8)
    found = np.where(generator.random(truth.shape) < 0.6, truth, generator.integers(0, classes + 1, truth.shape))
    truth[generator.random(truth.shape) < 0.1] = IGNORE
    found = found.astype(np.uint8)
    truth[0], found[0] = 0, 0
    truth[1][truth[1] == 1], found[1][found[1] == 1] = 0, 0
    truth[2][truth[2] == 2] = 0
    truth[3] = IGNORE
    return truth, found


def slow_scores(truth: np.ndarray, found: np.ndarray, classes: list[int]) -> dict[str, float]:
    """Loops over images, classes and pixels; shares nothing with the implementation."""
    dices, ious, nonempty_dices, nonempty_ious = [], [], [], []
    pooled = {number: [0, 0, 0] for number in classes}
    for one_truth, one_found in zip(truth, found, strict=True):
        dice, iou, present = [], [], []
        for number in classes:
            cells = [0, 0, 0]
            for true, guess in zip(one_truth.ravel(), one_found.ravel(), strict=True):
                if true == IGNORE:
                    continue
                if true == number and guess == number:
                    cells[0] += 1
                elif guess == number:
                    cells[1] += 1
                elif true == number:
                    cells[2] += 1
            pooled[number] = [a + b for a, b in zip(pooled[number], cells, strict=True)]
            tp, fp, fn = cells
            present.append(sum(cells) > 0)
            dice.append(2 * tp / (2 * tp + fp + fn) if sum(cells) else 1.0)
            iou.append(tp / (tp + fp + fn) if sum(cells) else 1.0)
        dices.append(np.mean(dice))
        ious.append(np.mean(iou))
        if any(present):
            nonempty_dices.append(np.mean([score for score, there in zip(dice, present, strict=True) if there]))
            nonempty_ious.append(np.mean([score for score, there in zip(iou, present, strict=True) if there]))
    return {
        "dice_per_image": np.mean(dices),
        "dice_nonempty": np.mean(nonempty_dices),
        "dice_pooled": np.mean([2 * tp / (2 * tp + fp + fn) for tp, fp, fn in pooled.values()]),
        "iou_per_image": np.mean(ious),
        "iou_nonempty": np.mean(nonempty_ious),
        "iou_pooled": np.mean([tp / (tp + fp + fn) for tp, fp, fn in pooled.values()]),
    }


def assert_scores(metric: Overlap, expected: dict[str, float]) -> None:
    found = {name: float(value) for name, value in metric.result().items()}
    assert found == pytest.approx(expected, rel=1e-9)


def counts_of(*rows: tuple[int, int, int, int]) -> tf.Tensor:
    return tf.constant(rows, tf.float32)[:, None, :]


def test_pixels_are_counted_by_hand():
    truth = tf.constant([[[1, 1, 0, 0, 1, IGNORE, IGNORE]]], tf.uint8)
    found = tf.constant([[[1, 1, 1, 0, 0, 1, 0]]], tf.uint8)
    np.testing.assert_array_equal(count_pixels(EXCLUSIVE, truth, found, [1]), [[[2, 1, 1, 1]]])
    np.testing.assert_array_equal(count_pixels(EXCLUSIVE, truth, found, [0, 1]), [[[1, 1, 1, 2], [2, 1, 1, 1]]])


def test_counts_add_up_to_the_known_pixels():
    truth, found = random_masks(0)
    counts = count_pixels(EXCLUSIVE, tf.constant(truth), tf.constant(found), [1, 2, 3]).numpy()
    known = (truth != IGNORE).sum((1, 2))
    np.testing.assert_array_equal(counts.sum(2), np.repeat(known[:, None], 3, axis=1))


@pytest.mark.parametrize("classes", [[1], [1, 2, 3], [0, 1, 2, 3]])
def test_scores_equal_an_independent_implementation(classes):
    truth, found = random_masks(1)
    metric = Overlap(len(classes))
    metric.update_state(count_pixels(EXCLUSIVE, tf.constant(truth), tf.constant(found), classes))
    assert_scores(metric, slow_scores(truth, found, classes))


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_scores_are_the_same_for_any_batch_size(batch):
    truth, found = random_masks(2)
    metric = Overlap(3)
    for first in range(0, len(truth), batch):
        rows = slice(first, first + batch)
        metric.update_state(count_pixels(EXCLUSIVE, tf.constant(truth[rows]), tf.constant(found[rows]), [1, 2, 3]))
    assert_scores(metric, slow_scores(truth, found, [1, 2, 3]))


def test_scores_of_two_images_by_hand():
    metric = Overlap(1)
    metric.update_state(counts_of((2, 1, 1, 0), (0, 0, 4, 0)))
    expected = [(2 / 3 + 0) / 2, (2 / 3 + 0) / 2, 4 / 10, (1 / 2 + 0) / 2, (1 / 2 + 0) / 2, 2 / 8]
    assert_scores(metric, dict(zip(NAMES, expected, strict=True)))


def test_empty_against_empty_counts_one_per_image_only():
    metric = Overlap(1)
    metric.update_state(counts_of((0, 0, 0, 16), (1, 1, 0, 14)))
    expected = [(1 + 2 / 3) / 2, 2 / 3, 2 / 3, (1 + 1 / 2) / 2, 1 / 2, 1 / 2]
    assert_scores(metric, dict(zip(NAMES, expected, strict=True)))


def test_one_false_pixel_on_an_empty_image_counts_zero():
    metric = Overlap(1)
    metric.update_state(counts_of((0, 1, 0, 15)))
    assert_scores(metric, dict.fromkeys(NAMES, 0.0))


def test_images_of_weight_zero_count_nothing():
    truth, found = random_masks(3)
    metric = Overlap(3)
    counts = count_pixels(EXCLUSIVE, tf.constant(truth), tf.constant(found), [1, 2, 3])
    metric.update_state(counts, tf.constant([1.0] * 6 + [0.0] * 3))
    assert_scores(metric, slow_scores(truth[:6], found[:6], [1, 2, 3]))


def test_reset_forgets_everything():
    metric = Overlap(1)
    metric.update_state(counts_of((0, 7, 9, 0)))
    metric.reset_state()
    metric.update_state(counts_of((3, 1, 0, 0)))
    expected = [6 / 7, 6 / 7, 6 / 7, 3 / 4, 3 / 4, 3 / 4]
    assert_scores(metric, dict(zip(NAMES, expected, strict=True)))


def test_nothing_seen_is_no_error():
    values = [float(value) for value in Overlap(2).result().values()]
    assert not any(math.isnan(value) for value in values)


def test_counts_beyond_float32_are_summed_exactly():
    # 2**24 + 1 is no float32.
    metric = Overlap(1)
    metric.update_state(counts_of((2**24, 0, 0, 0)))
    metric.update_state(counts_of((1, 0, 2**24 + 2, 0)))
    assert float(metric.result()["iou_pooled"]) == (2**24 + 1) / (2**25 + 3)


# --- overlapping classes


def bit_fields(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (truth with ignored pixels, prediction) of three overlapping classes."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 8, [7, 6, 5]).astype(np.uint16)
    found = np.where(generator.random(truth.shape) < 0.6, truth, generator.integers(0, 8, truth.shape))
    truth[generator.random(truth.shape) < 0.2] |= IGNORE_BIT
    truth[0], found[0] = 0, 0
    truth[1] |= IGNORE_BIT
    return truth, found.astype(np.uint16)


def test_pixels_of_overlapping_classes_are_counted_by_hand():
    truth = tf.constant([[[0b01, 0b11, 0b10, 0, IGNORE_BIT + 0b11]]], tf.uint16)
    found = tf.constant([[[0b01, 0b10, 0b11, 0b01, 0b11]]], tf.uint16)
    counts = count_pixels(Labels(2, overlapping=True), truth, found, [0, 1])
    np.testing.assert_array_equal(counts, [[[1, 2, 1, 0], [2, 0, 0, 2]]])


def test_each_overlapping_class_scores_what_it_scores_alone():
    truth, found = bit_fields(4)
    overlapping = Labels(3, overlapping=True)
    counts = count_pixels(overlapping, tf.constant(truth), tf.constant(found), [0, 1, 2])
    metric = Overlap(3)
    metric.update_state(counts)
    alone = []
    for number in range(3):
        of_class = np.where(truth >= IGNORE_BIT, IGNORE, truth >> number & 1).astype(np.uint8)
        alone.append(slow_scores(of_class, found >> number & 1, [1]))
    for name in ("dice_per_image", "dice_pooled", "iou_per_image", "iou_pooled"):
        assert float(metric.result()[name]) == pytest.approx(np.mean([scores[name] for scores in alone]), rel=1e-6)
    known = (truth < IGNORE_BIT).sum((1, 2))
    np.testing.assert_array_equal(counts.numpy().sum(2), np.repeat(known[:, None], 3, axis=1))
