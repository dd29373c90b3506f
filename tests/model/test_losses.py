import math

import numpy as np
import pytest
import tensorflow as tf

from model.labels import IGNORE, IGNORE_BIT, Labels
from model.losses import LOSSES, SMOOTH, cross_entropy, cross_entropy_dice, dice

HALF_FLOATS = (tf.float16, tf.bfloat16)
BINARY, THREE, OVERLAPPING = Labels(2), Labels(3), Labels(3, overlapping=True)
KINDS = pytest.mark.parametrize("labels", [BINARY, THREE, OVERLAPPING], ids=["binary", "three", "overlapping"])


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def gradient_of(loss, labels, masks, logits):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(labels, masks, logits)
    return value, tape.gradient(value, logits)


def random_example(labels: Labels, seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (masks without ignored pixels, float32 logits)."""
    generator = np.random.default_rng(seed)
    values, dtype = (2**labels.num_classes, np.uint16) if labels.overlapping else (labels.num_classes, np.uint8)
    masks = generator.integers(0, values, shape).astype(dtype)
    return masks, generator.normal(size=[*shape, labels.outputs]).astype(np.float32)


def test_binary_cross_entropy_equals_the_hand_computed_mean():
    # -log of the probability given to the truth: 0.8, 1 - 0.5, 1 - 0.1, 0.25
    masks = tf.constant([[[1, 0], [0, 1]]], tf.uint8)
    logits = tf.constant([logit(0.8), logit(0.5), logit(0.1), logit(0.25)], shape=[1, 2, 2, 1])
    expected = -(math.log(0.8) + math.log(0.5) + math.log(0.9) + math.log(0.25)) / 4
    np.testing.assert_allclose(cross_entropy(BINARY, masks, logits), [expected], rtol=1e-6)


def test_softmax_cross_entropy_equals_the_hand_computed_mean():
    # exp gives weights 1, 2, 3 of 6 and 4, 1, 5 of 10.
    masks = tf.constant([[[2, 0]]], tf.uint8)
    logits = tf.constant([[[[0, math.log(2), math.log(3)], [math.log(4), 0, math.log(5)]]]], tf.float32)
    expected = -(math.log(3 / 6) + math.log(4 / 10)) / 2
    np.testing.assert_allclose(cross_entropy(THREE, masks, logits), [expected], rtol=1e-6)


def test_losses_of_overlapping_classes_equal_the_hand_computed_values():
    # Two classes; the pixels hold both, none, the second alone; a fourth is ignored, whatever else it holds.
    masks = tf.constant([[[0b11, 0, 0b10, IGNORE_BIT + 0b01]]], tf.uint16)
    chances = [[0.8, 0.5], [0.1, 0.25], [0.4, 0.9], [0.99, 0.01]]
    logits = tf.constant([[[[logit(value) for value in pair] for pair in chances]]], tf.float32)
    logs = [math.log(value) for value in (0.8, 0.5, 0.9, 0.75, 0.6, 0.9)]
    labels = Labels(2, overlapping=True)
    np.testing.assert_allclose(cross_entropy(labels, masks, logits), [-sum(logs) / 6], rtol=1e-5)
    first = (2 * 0.8 + SMOOTH) / (0.8 + 0.1 + 0.4 + 1 + SMOOTH)
    second = (2 * (0.5 + 0.9) + SMOOTH) / (0.5 + 0.25 + 0.9 + 2 + SMOOTH)
    np.testing.assert_allclose(dice(labels, masks, logits), [1 - (first + second) / 2], rtol=1e-5)


def test_one_overlapping_class_costs_what_a_class_against_a_background_does():
    masks, logits = random_example(BINARY, 5, 3, 8, 8)
    for loss in LOSSES.values():
        alone = loss(Labels(1, overlapping=True), tf.constant(masks.astype(np.uint16)), tf.constant(logits))
        np.testing.assert_array_equal(alone, loss(BINARY, tf.constant(masks), tf.constant(logits)))


def test_dice_loss_equals_the_hand_computed_value():
    # sum(p t) = 0.8 + 0.25, sum(p) = 1.65, sum(t) = 2
    masks = tf.constant([[[1, 0], [0, 1]]], tf.uint8)
    logits = tf.constant([logit(0.8), logit(0.5), logit(0.1), logit(0.25)], shape=[1, 2, 2, 1])
    expected = 1 - (2 * 1.05 + SMOOTH) / (1.65 + 2 + SMOOTH)
    np.testing.assert_allclose(dice(BINARY, masks, logits), [expected], rtol=1e-6)


def test_dice_loss_of_several_classes_is_the_mean_over_them():
    # Every pixel gets probabilities 1/2, 1/4, 1/4; the truth is 0, 0, 2.
    masks = tf.constant([[[0, 0, 2]]], tf.uint8)
    logits = tf.tile(tf.constant([[[[math.log(2), 0.0, 0.0]]]]), [1, 1, 3, 1])
    scores = [(2 * 1 + 1) / (1.5 + 2 + 1), (0 + 1) / (0.75 + 0 + 1), (2 * 0.25 + 1) / (0.75 + 1 + 1)]
    np.testing.assert_allclose(dice(THREE, masks, logits), [1 - np.mean(scores)], rtol=1e-6)


@KINDS
def test_the_sum_loss_is_the_sum(labels):
    masks, logits = (tf.constant(array) for array in random_example(labels, 0, 3, 8, 8))
    expected = cross_entropy(labels, masks, logits) + dice(labels, masks, logits)
    np.testing.assert_allclose(cross_entropy_dice(labels, masks, logits), expected, rtol=1e-6)
    assert (LOSSES["bce"], LOSSES["dice"], LOSSES["bce_dice"]) == (cross_entropy, dice, cross_entropy_dice)


@KINDS
@pytest.mark.parametrize("name", LOSSES)
def test_an_ignored_pixel_counts_as_if_it_were_left_out(name, labels):
    masks, logits = random_example(labels, 1, 2, 6, 8)
    ignored = masks.copy()
    ignored[:, :, 5:] = masks[:, :, 5:] | IGNORE_BIT if labels.overlapping else IGNORE
    loss = LOSSES[name]
    kept = loss(labels, tf.constant(masks[:, :, :5]), tf.constant(logits[:, :, :5]))
    np.testing.assert_allclose(loss(labels, tf.constant(ignored), tf.constant(logits)), kept, rtol=1e-5)
    _, gradient = gradient_of(loss, labels, tf.constant(ignored), tf.constant(logits))
    assert not np.any(gradient[:, :, 5:])
    assert np.all(np.any(gradient[:, :, :5], axis=-1))


@KINDS
@pytest.mark.parametrize("name", LOSSES)
def test_every_example_has_its_own_loss(name, labels):
    masks, logits = (tf.constant(array) for array in random_example(labels, 2, 3, 4, 6))
    together = LOSSES[name](labels, masks, logits)
    assert together.shape == [3]
    assert together.dtype == tf.float32
    alone = [LOSSES[name](labels, masks[index : index + 1], logits[index : index + 1])[0] for index in range(3)]
    np.testing.assert_allclose(together, alone, rtol=1e-6)


@KINDS
@pytest.mark.parametrize("value", [0, 1, "ignore"])
@pytest.mark.parametrize("dtype", [tf.float32, *HALF_FLOATS])
@pytest.mark.parametrize("name", LOSSES)
def test_uniform_masks_have_finite_losses_and_gradients(name, dtype, value, labels):
    # 65,536 pixels: a float16 sum over them is infinite.
    if value == "ignore":
        value = IGNORE_BIT if labels.overlapping else IGNORE
    masks = tf.fill([1, 256, 256], tf.constant(value, tf.uint16 if labels.overlapping else tf.uint8))
    for number in (-30.0, 0.0, 30.0):
        logits = tf.cast(tf.fill([1, 256, 256, labels.outputs], number), dtype)
        loss, gradient = gradient_of(LOSSES[name], labels, masks, logits)
        assert loss.dtype == tf.float32
        assert np.isfinite(loss).all()
        assert np.isfinite(tf.cast(gradient, tf.float32)).all()


@pytest.mark.parametrize("dtype", HALF_FLOATS)
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_logits_give_the_loss_of_the_same_numbers_in_float32(name, dtype):
    masks, logits = random_example(BINARY, 3, 1, 256, 256)
    half = tf.cast(logits, dtype)
    found, expected = (LOSSES[name](BINARY, tf.constant(masks), one) for one in (half, tf.cast(half, tf.float32)))
    np.testing.assert_array_equal(found, expected)


def test_a_perfect_prediction_costs_nothing_also_where_there_is_nothing():
    for value in (0, 1):
        masks = tf.fill([1, 16, 16], tf.constant(value, tf.uint8))
        logits = tf.fill([1, 16, 16, 1], 60.0 if value else -60.0)
        np.testing.assert_allclose(cross_entropy_dice(BINARY, masks, logits), [0], atol=1e-6)


@KINDS
def test_a_wholly_ignored_example_costs_nothing(labels):
    masks, logits = random_example(labels, 4, 1, 4, 4)
    masks = np.full_like(masks, IGNORE_BIT if labels.overlapping else IGNORE)
    for loss in LOSSES.values():
        np.testing.assert_allclose(loss(labels, tf.constant(masks), tf.constant(logits)), [0], atol=1e-7)
