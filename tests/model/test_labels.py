import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from model.labels import IGNORE, IGNORE_BIT, Labels, ignore_value

ANY_BIT_FIELDS = st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("labels", "outputs", "softmax"),
    [
        (Labels(2), 1, False),
        (Labels(3), 3, True),
        (Labels(7), 7, True),
        (Labels(1, overlapping=True), 1, False),
        (Labels(2, overlapping=True), 2, False),
        (Labels(15, overlapping=True), 15, False),
    ],
)
def test_two_exclusive_classes_need_one_output_and_all_others_one_each(labels, outputs, softmax):
    assert (labels.outputs, labels.softmax) == (outputs, softmax)


def test_targets_of_exclusive_classes_are_one_hot_and_valid_marks_what_is_known():
    targets, valid = Labels(3).targets(tf.constant([[[0, 1, 2, IGNORE]]], tf.uint8))
    np.testing.assert_array_equal(targets[0, 0], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(valid[0, 0, :, 0], [1, 1, 1, 0])
    binary, valid = Labels(2).targets(tf.constant([[[0, 1, IGNORE]]], tf.uint8))
    np.testing.assert_array_equal(binary[0, 0, :, 0], [0, 1, 0])
    np.testing.assert_array_equal(valid[0, 0, :, 0], [1, 1, 0])


def test_targets_of_overlapping_classes_are_the_bits():
    masks = tf.constant([[[0, 0b001, 0b110, 0b111, IGNORE_BIT]]], tf.uint16)
    targets, valid = Labels(3, overlapping=True).targets(masks)
    np.testing.assert_array_equal(targets[0, 0], [[0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]])
    np.testing.assert_array_equal(valid[0, 0, :, 0], [1, 1, 1, 1, 0])
    assert (targets.dtype, valid.dtype) == (tf.float32, tf.float32)


@settings(max_examples=30, deadline=None)
@given(ANY_BIT_FIELDS)
def test_bits_and_ignored_pixels_are_those_that_python_finds(values):
    masks = tf.constant([[values]], tf.uint16)
    labels = Labels(15, overlapping=True)
    for number in range(15):
        assert labels.holds(masks, number)[0, 0].numpy().tolist() == [bool(value & 1 << number) for value in values]
    assert labels.valid(masks)[0, 0].numpy().tolist() == [value < 2**15 for value in values]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2**15 - 1), min_size=1, max_size=40))
def test_classifying_the_targets_gives_the_masks_back(values):
    masks = tf.constant([[values]], tf.uint16)
    labels = Labels(15, overlapping=True)
    found = labels.classify(labels.targets(masks)[0], 0.5)
    assert found.dtype == tf.uint16
    np.testing.assert_array_equal(found, masks)


def test_probabilities_are_a_softmax_of_exclusive_and_sigmoids_of_overlapping_classes():
    logits = tf.constant(np.random.default_rng(0).normal(size=[2, 4, 5, 3]), tf.float32)
    exponentials = np.exp(logits)
    softmax = exponentials / exponentials.sum(-1, keepdims=True)
    np.testing.assert_allclose(Labels(3).probabilities(logits), softmax, rtol=1e-5)
    sigmoid = 1 / (1 + np.exp(-logits.numpy()))
    np.testing.assert_allclose(Labels(3, overlapping=True).probabilities(logits), sigmoid, rtol=1e-5)
    np.testing.assert_allclose(Labels(2).probabilities(logits[..., :1]), sigmoid[..., :1], rtol=1e-5)


def test_the_threshold_decides_for_each_overlapping_class_and_belongs_to_the_class():
    probabilities = tf.constant([[[[0.3, 0.5, 0.9], [0.0, 0.2, 0.4], [1.0, 1.0, 1.0]]]])
    labels = Labels(3, overlapping=True)
    np.testing.assert_array_equal(labels.classify(probabilities, 0.5)[0, 0], [0b110, 0, 0b111])
    np.testing.assert_array_equal(labels.classify(probabilities, 0.25)[0, 0], [0b111, 0b100, 0b111])


def test_exclusive_classes_are_classified_as_indices():
    found = Labels(3).classify(tf.constant([[0.1, 0.2, 0.7], [0.4, 0.3, 0.3]]), 0.9)
    assert found.dtype == tf.uint8
    np.testing.assert_array_equal(found, [2, 0])
    np.testing.assert_array_equal(Labels(2).classify(tf.constant([[0.4], [0.6]]), 0.5), [0, 1])


def test_equal_thresholds_of_a_softmax_give_the_most_probable_class():
    probabilities = tf.nn.softmax(tf.random.stateless_normal([50, 40, 4], seed=[1, 2]))
    labels = Labels(4)
    expected = tf.argmax(probabilities, -1)
    for threshold in (0.5, [0.5] * 4, 0.2, [0.9] * 4):
        np.testing.assert_array_equal(labels.classify(probabilities, threshold), expected)


@pytest.mark.parametrize("threshold", [0.1, 0.35, 0.6, 0.95])
def test_the_threshold_of_a_softmax_is_the_share_of_a_class_and_the_most_probable_other(threshold):
    probabilities = tf.nn.softmax(tf.random.stateless_normal([50, 40, 4], seed=[3, 4])).numpy().astype(np.float64)
    others = np.delete(probabilities, 2, -1)
    share = probabilities[..., 2] / (probabilities[..., 2] + others.max(-1))
    clear = np.abs(share - threshold) > 1e-6
    found = Labels(4).classify(tf.constant(probabilities, tf.float32), [0.5, 0.5, threshold, 0.5]).numpy()
    expected = np.where(share >= threshold, 2, np.array([0, 1, 3])[others.argmax(-1)])
    np.testing.assert_array_equal(found[clear], expected[clear])


def test_the_threshold_of_one_of_two_probabilities_is_that_of_one_output():
    """A softmax whose third class is impossible decides as a sigmoid does."""
    values = np.linspace(0.01, 0.99, 99)
    softmax = tf.constant(np.stack([1 - values, values, 0 * values], -1), tf.float32)
    for threshold in (0.155, 0.505, 0.785):
        one = Labels(2).classify(tf.constant(values[:, None], tf.float32), threshold)
        np.testing.assert_array_equal(Labels(3).classify(softmax, [0.5, threshold, 0.5]), one)


def test_what_marks_ignored_pixels_follows_from_the_masks_dtype():
    assert [ignore_value(dtype) for dtype in (tf.uint8, tf.uint16)] == [IGNORE, IGNORE_BIT]
