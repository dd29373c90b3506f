import math

import numpy as np
import pytest
import tensorflow as tf

from model.losses import IGNORE, LOSSES, SMOOTH, cross_entropy, cross_entropy_dice, dice, targets_of

HALF_FLOATS = (tf.float16, tf.bfloat16)


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def gradient_of(loss, masks, logits):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(masks, logits)
    return value, tape.gradient(value, logits)


def test_binary_cross_entropy_equals_the_hand_computed_mean():
    # -log of the probability given to the truth: 0.8, 1 - 0.5, 1 - 0.1, 0.25
    masks = tf.constant([[[1, 0], [0, 1]]], tf.uint8)
    logits = tf.constant([logit(0.8), logit(0.5), logit(0.1), logit(0.25)], shape=[1, 2, 2, 1])
    expected = -(math.log(0.8) + math.log(0.5) + math.log(0.9) + math.log(0.25)) / 4
    np.testing.assert_allclose(cross_entropy(masks, logits), [expected], rtol=1e-6)


def test_softmax_cross_entropy_equals_the_hand_computed_mean():
    # exp gives weights 1, 2, 3 of 6 and 4, 1, 5 of 10.
    masks = tf.constant([[[2, 0]]], tf.uint8)
    logits = tf.constant([[[[0, math.log(2), math.log(3)], [math.log(4), 0, math.log(5)]]]], tf.float32)
    expected = -(math.log(3 / 6) + math.log(4 / 10)) / 2
    np.testing.assert_allclose(cross_entropy(masks, logits), [expected], rtol=1e-6)


def test_dice_loss_equals_the_hand_computed_value():
    # sum(p t) = 0.8 + 0.25, sum(p) = 1.65, sum(t) = 2
    masks = tf.constant([[[1, 0], [0, 1]]], tf.uint8)
    logits = tf.constant([logit(0.8), logit(0.5), logit(0.1), logit(0.25)], shape=[1, 2, 2, 1])
    expected = 1 - (2 * 1.05 + SMOOTH) / (1.65 + 2 + SMOOTH)
    np.testing.assert_allclose(dice(masks, logits), [expected], rtol=1e-6)


def test_dice_loss_of_several_classes_is_the_mean_over_them():
    # Every pixel gets probabilities 1/2, 1/4, 1/4; the truth is 0, 0, 2.
    masks = tf.constant([[[0, 0, 2]]], tf.uint8)
    logits = tf.tile(tf.constant([[[[math.log(2), 0.0, 0.0]]]]), [1, 1, 3, 1])
    scores = [(2 * 1 + 1) / (1.5 + 2 + 1), (0 + 1) / (0.75 + 0 + 1), (2 * 0.25 + 1) / (0.75 + 1 + 1)]
    np.testing.assert_allclose(dice(masks, logits), [1 - np.mean(scores)], rtol=1e-6)


def test_the_sum_loss_is_the_sum():
    generator = np.random.default_rng(0)
    masks = tf.constant(generator.integers(0, 2, [3, 8, 8]), tf.uint8)
    logits = tf.constant(generator.normal(size=[3, 8, 8, 1]), tf.float32)
    expected = cross_entropy(masks, logits) + dice(masks, logits)
    np.testing.assert_allclose(cross_entropy_dice(masks, logits), expected, rtol=1e-6)
    assert (LOSSES["bce"], LOSSES["dice"], LOSSES["bce_dice"]) == (cross_entropy, dice, cross_entropy_dice)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", LOSSES)
def test_an_ignored_pixel_counts_as_if_it_were_left_out(name, outputs):
    generator = np.random.default_rng(1)
    masks = generator.integers(0, max(2, outputs), [2, 6, 8]).astype(np.uint8)
    logits = generator.normal(size=[2, 6, 8, outputs]).astype(np.float32)
    ignored = masks.copy()
    ignored[:, :, 5:] = IGNORE
    loss = LOSSES[name]
    kept = loss(tf.constant(masks[:, :, :5]), tf.constant(logits[:, :, :5]))
    np.testing.assert_allclose(loss(tf.constant(ignored), tf.constant(logits)), kept, rtol=1e-5)
    _, gradient = gradient_of(loss, tf.constant(ignored), tf.constant(logits))
    assert not np.any(gradient[:, :, 5:])
    assert np.all(np.any(gradient[:, :, :5], axis=-1))


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", LOSSES)
def test_every_example_has_its_own_loss(name, outputs):
    generator = np.random.default_rng(2)
    masks = tf.constant(generator.integers(0, max(2, outputs), [3, 4, 6]), tf.uint8)
    logits = tf.constant(generator.normal(size=[3, 4, 6, outputs]), tf.float32)
    together = LOSSES[name](masks, logits)
    assert together.shape == [3]
    assert together.dtype == tf.float32
    alone = [LOSSES[name](masks[index : index + 1], logits[index : index + 1])[0] for index in range(3)]
    np.testing.assert_allclose(together, alone, rtol=1e-6)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("label", [0, 1, IGNORE])
@pytest.mark.parametrize("dtype", [tf.float32, *HALF_FLOATS])
@pytest.mark.parametrize("name", LOSSES)
def test_uniform_masks_have_finite_losses_and_gradients(name, dtype, label, outputs):
    # 65,536 pixels: a float16 sum over them is infinite.
    masks = tf.fill([1, 256, 256], tf.constant(label, tf.uint8))
    for value in (-30.0, 0.0, 30.0):
        logits = tf.cast(tf.fill([1, 256, 256, outputs], value), dtype)
        loss, gradient = gradient_of(LOSSES[name], masks, logits)
        assert loss.dtype == tf.float32
        assert np.isfinite(loss).all()
        assert np.isfinite(tf.cast(gradient, tf.float32)).all()


@pytest.mark.parametrize("dtype", HALF_FLOATS)
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_logits_give_the_loss_of_the_same_numbers_in_float32(name, dtype):
    generator = np.random.default_rng(3)
    masks = tf.constant(generator.integers(0, 2, [1, 256, 256]), tf.uint8)
    logits = tf.cast(generator.normal(size=[1, 256, 256, 1]), dtype)
    np.testing.assert_array_equal(LOSSES[name](masks, logits), LOSSES[name](masks, tf.cast(logits, tf.float32)))


def test_a_perfect_prediction_costs_nothing_also_where_there_is_nothing():
    for label in (0, 1):
        masks = tf.fill([1, 16, 16], tf.constant(label, tf.uint8))
        logits = tf.fill([1, 16, 16, 1], 60.0 if label else -60.0)
        np.testing.assert_allclose(cross_entropy_dice(masks, logits), [0], atol=1e-6)


def test_a_wholly_ignored_example_costs_nothing():
    masks = tf.fill([1, 4, 4], tf.constant(IGNORE, tf.uint8))
    logits = tf.constant(np.random.default_rng(4).normal(size=[1, 4, 4, 1]), tf.float32)
    for loss in LOSSES.values():
        np.testing.assert_allclose(loss(masks, logits), [0], atol=1e-7)


def test_targets_are_one_hot_and_valid_marks_what_is_known():
    masks = tf.constant([[[0, 1, 2, IGNORE]]], tf.uint8)
    targets, valid = targets_of(masks, 3)
    np.testing.assert_array_equal(targets[0, 0], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(valid[0, 0, :, 0], [1, 1, 1, 0])
    binary, valid = targets_of(tf.constant([[[0, 1, IGNORE]]], tf.uint8), 1)
    np.testing.assert_array_equal(binary[0, 0, :, 0], [0, 1, 0])
    np.testing.assert_array_equal(valid[0, 0, :, 0], [1, 1, 0])
