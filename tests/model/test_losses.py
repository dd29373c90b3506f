"""Laws that hold for every loss; their values: test_loss_values.py."""

from typing import get_args

import numpy as np
import pytest
import tensorflow as tf

from model.labels import Labels
from model.loss_config import LossConfig, LossName
from model.losses import make_loss
from tests.model.loss_examples import BINARY, KINDS, OVERLAPPING, THREE, ignored, random_example, with_gradient

NAMES = get_args(LossName)
EACH = pytest.mark.parametrize("name", NAMES)


def single(name: str, labels: Labels):
    return make_loss(LossConfig({name: 1.0}), labels)


@KINDS
def test_the_loss_is_the_weighted_sum_of_its_terms(labels):
    masks, logits = (tf.constant(array) for array in random_example(labels, 0, 3, 8, 8))
    weights = {name: 0.5 + index for index, name in enumerate(NAMES)}
    expected = sum(weight * single(name, labels)(masks, logits) for name, weight in weights.items())
    np.testing.assert_allclose(make_loss(LossConfig(weights), labels)(masks, logits), expected, rtol=1e-5)


@KINDS
@EACH
def test_an_ignored_pixel_counts_as_if_it_were_left_out(name, labels):
    masks, logits = random_example(labels, 1, 2, 6, 8)
    loss = single(name, labels)
    kept = loss(tf.constant(masks[:, :, :5]), tf.constant(logits[:, :, :5]))
    value, gradient = with_gradient(loss, ignored(labels, masks, np.s_[:, :, 5:]), logits)
    np.testing.assert_allclose(value, kept, rtol=1e-5)
    assert not np.any(gradient[:, :, 5:])
    # The Lovász losses leave pixels without a gradient that are right by a margin, or behind all errors.
    assert np.all(np.any(gradient[:, :, :5], axis=-1)) or name == "lovasz"


@KINDS
@EACH
def test_what_is_predicted_for_an_ignored_pixel_changes_nothing(name, labels):
    masks, logits = random_example(labels, 2, 2, 6, 8)
    where = np.random.default_rng(0).random(masks.shape) < 0.3
    others = logits.copy()
    others[where] = np.random.default_rng(1).choice([-60000.0, -3.0, 3.0, 60000.0], others[where].shape)
    masks = ignored(labels, masks, where)
    expected, expected_gradient = with_gradient(single(name, labels), masks, logits)
    found, gradient = with_gradient(single(name, labels), masks, others)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(gradient, expected_gradient)
    assert not np.any(gradient.numpy()[where])


@KINDS
@EACH
def test_every_example_has_its_own_loss(name, labels):
    masks, logits = (tf.constant(array) for array in random_example(labels, 2, 3, 4, 6))
    # With neighbours that are empty, and of which nothing is known.
    masks = tf.concat([masks, tf.zeros_like(masks[:1]), ignored(labels, masks[:1].numpy(), np.s_[:])], 0)
    logits = tf.concat([logits, logits[:2]], 0)
    loss = single(name, labels)
    together = loss(masks, logits)
    assert together.shape == [5]
    assert together.dtype == tf.float32
    alone = [loss(masks[index : index + 1], logits[index : index + 1])[0] for index in range(5)]
    np.testing.assert_allclose(together, alone, rtol=1e-6)


@KINDS
@EACH
def test_mirrored_and_turned_examples_have_the_same_loss(name, labels):
    masks, logits = random_example(labels, 3, 2, 5, 7)
    loss = single(name, labels)
    expected = loss(tf.constant(masks), tf.constant(logits))
    for change in (lambda array: array[:, ::-1], lambda array: np.swapaxes(array, 1, 2)):
        found = loss(tf.constant(change(masks)), tf.constant(change(logits)))
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@EACH
def test_the_order_of_classes_does_not_matter(name):
    order = np.array([2, 0, 1])  # new class by old
    masks, logits = random_example(THREE, 4, 2, 6, 6)
    moved = np.empty_like(logits)
    moved[..., order] = logits
    expected = single(name, THREE)(tf.constant(masks), tf.constant(logits))
    found = single(name, THREE)(tf.constant(order.astype(np.uint8)[masks]), tf.constant(moved))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@EACH
def test_one_overlapping_class_costs_what_a_class_against_a_background_does(name):
    masks, logits = random_example(BINARY, 5, 3, 8, 8)
    alone = single(name, Labels(1, overlapping=True))(tf.constant(masks.astype(np.uint16)), tf.constant(logits))
    np.testing.assert_array_equal(alone, single(name, BINARY)(tf.constant(masks), tf.constant(logits)))


@EACH
def test_overlapping_classes_cost_the_mean_of_each_against_its_background(name):
    masks, logits = random_example(OVERLAPPING, 6, 2, 8, 8)
    single_class = single(name, BINARY)
    each = [
        single_class(tf.constant((masks >> index & 1).astype(np.uint8)), tf.constant(logits[..., index : index + 1]))
        for index in range(3)
    ]
    found = single(name, OVERLAPPING)(tf.constant(masks), tf.constant(logits))
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-5)


@KINDS
@pytest.mark.parametrize("value", [0, 1, None], ids=["empty", "full", "ignored"])
@EACH
def test_uniform_masks_have_finite_losses_and_gradients(name, value, labels):
    masks = np.full([1, 16, 16], value or 0, np.uint16 if labels.overlapping else np.uint8)
    masks = ignored(labels, masks, np.s_[:]) if value is None else masks
    for number in (-60000.0, 0.0, 60000.0):
        logits = tf.fill([1, 16, 16, labels.outputs], tf.constant(number, tf.float16))
        loss, gradient = with_gradient(single(name, labels), masks, logits)
        assert np.isfinite(loss).all()
        assert np.isfinite(tf.cast(gradient, tf.float32)).all()


@pytest.mark.parametrize("contents", ["empty", "full", "discs"])
@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
@EACH
def test_large_half_precision_images_have_finite_losses_and_gradients(name, dtype, contents):
    rows, columns = np.mgrid[:1024, :1024]
    discs = (rows % 128 - 64) ** 2 + (columns % 128 - 60) ** 2 < 40**2
    masks = {"empty": np.zeros_like(discs), "full": np.ones_like(discs), "discs": discs}[contents][None].astype(
        np.uint8
    )
    # Columns that are as wrong as can be, right, and undecided.
    numbers = np.resize([-60000.0, -1e4, -1.0, 0.0, 1.0, 1e4, 60000.0], 1024)
    logits = tf.cast(tf.broadcast_to(numbers[:, None], [1, 1024, 1024, 1]), dtype)
    loss, gradient = with_gradient(single(name, BINARY), masks, logits)
    assert loss.dtype == tf.float32
    assert gradient.dtype == dtype
    assert np.isfinite(loss).all()
    assert np.isfinite(tf.cast(gradient, tf.float32)).all()


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
@EACH
def test_half_precision_logits_give_the_loss_of_the_same_numbers_in_float32(name, dtype):
    masks, logits = random_example(BINARY, 3, 1, 256, 256)
    half, loss = tf.cast(logits, dtype), single(name, BINARY)
    found, expected = (loss(tf.constant(masks), one) for one in (half, tf.cast(half, tf.float32)))
    np.testing.assert_array_equal(found, expected)


@KINDS
@EACH
def test_a_perfect_prediction_costs_nothing_also_where_there_is_nothing(name, labels):
    random, _ = random_example(labels, 7, 1, 12, 12)
    for masks in (random, np.zeros_like(random), np.ones_like(random)):
        targets, _ = labels.targets(tf.constant(masks))
        loss, gradient = with_gradient(single(name, labels), masks, 120 * targets - 60)
        np.testing.assert_allclose(loss, [0], atol=1e-6)
        assert np.isfinite(gradient).all()


@KINDS
@EACH
def test_a_wholly_ignored_example_costs_nothing(name, labels):
    masks, logits = random_example(labels, 4, 1, 4, 4)
    loss, gradient = with_gradient(single(name, labels), ignored(labels, masks, np.s_[:]), logits)
    np.testing.assert_array_equal(loss, [0])
    assert not np.any(gradient)


@KINDS
@EACH
def test_a_step_against_the_gradient_lowers_the_loss(name, labels):
    masks, logits = random_example(labels, 8, 1, 8, 8)
    loss = single(name, labels)
    value, gradient = with_gradient(loss, masks, logits)
    assert loss(tf.constant(masks), logits - 1e-2 * gradient) < value


@pytest.mark.parametrize("labels", [BINARY, THREE], ids=["binary", "three"])
@EACH
def test_xla_compiles_value_and_gradient(name, labels):
    masks, logits = random_example(labels, 9, 2, 9, 11)
    masks = ignored(labels, masks, np.s_[:, 2:4, 5:])
    loss = single(name, labels)
    compiled = tf.function(lambda masks, logits: with_gradient(loss, masks, logits), jit_compile=True)
    found = compiled(tf.constant(masks), tf.constant(logits))
    for one, expected in zip(found, with_gradient(loss, masks, logits), strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-6)


@EACH
def test_the_size_of_images_need_not_be_known_when_a_step_is_traced(name):
    masks, logits = random_example(THREE, 10, 2, 5, 7)
    loss = single(name, THREE)
    signature = [tf.TensorSpec([None, None, None], tf.uint8), tf.TensorSpec([None, None, None, 3], tf.float32)]
    found = tf.function(loss, input_signature=signature)(tf.constant(masks), tf.constant(logits))
    np.testing.assert_allclose(found, loss(tf.constant(masks), tf.constant(logits)), rtol=1e-6)
