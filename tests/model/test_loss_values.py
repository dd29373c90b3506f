"""Losses against numbers made by hand and plain implementations; laws of all losses: test_losses.py."""

import math

import numpy as np
import pytest
import tensorflow as tf

from model.labels import IGNORE_BIT, Labels
from model.loss_config import LossConfig
from model.losses import (
    balanced_weights,
    boundary,
    cross_entropy,
    dice,
    focal,
    focal_tversky,
    jaccard,
    lovasz,
    make_loss,
    tversky,
)
from model.losses.overlap import SMOOTH
from tests.model.loss_examples import (
    BINARY,
    FOUR_LOGITS,
    FOUR_MASKS,
    KINDS,
    OVERLAPPING,
    THREE,
    TWO_LOGITS,
    TWO_MASKS,
    logit,
    random_example,
)

LOGS = [math.log(chance) for chance in (0.8, 0.5, 0.9, 0.25)]
"""Of the probabilities that the four pixels give to the truth: 0.8, 1 - 0.5, 1 - 0.1, 0.25."""


def expect(found, value: float):
    np.testing.assert_allclose(found, [value], rtol=2e-6)


def test_binary_cross_entropy_is_the_mean_of_the_logarithms():
    expect(cross_entropy(BINARY, FOUR_MASKS, FOUR_LOGITS), -sum(LOGS) / 4)


def test_softmax_cross_entropy_is_the_mean_of_the_logarithms():
    expect(cross_entropy(THREE, TWO_MASKS, TWO_LOGITS), -(math.log(3 / 6) + math.log(4 / 10)) / 2)


def test_class_weights_multiply_pixels_by_their_true_class():
    weighted = -(3 * LOGS[0] + 0.5 * LOGS[1] + 0.5 * LOGS[2] + 3 * LOGS[3]) / 4
    expect(cross_entropy(BINARY, FOUR_MASKS, FOUR_LOGITS, class_weights=[0.5, 3]), weighted)
    weighted = -(3 * math.log(3 / 6) + 5 * math.log(4 / 10)) / 2
    expect(cross_entropy(THREE, TWO_MASKS, TWO_LOGITS, class_weights=[5, 7, 3]), weighted)


def test_class_weights_of_overlapping_classes_multiply_pixels_that_hold_them():
    # One pixel holds both classes, the other the second.
    masks, labels = tf.constant([[[0b11, 0b10]]], tf.uint16), Labels(2, overlapping=True)
    logits = tf.constant([[[[logit(0.8), logit(0.5)], [logit(0.1), logit(0.25)]]]])
    weighted = -(2 * math.log(0.8) + 3 * math.log(0.5) + math.log(0.9) + 3 * math.log(0.25)) / 4
    expect(cross_entropy(labels, masks, logits, class_weights=[2, 3]), weighted)


def test_label_smoothing_spreads_the_truth_evenly():
    # A fifth spread over two classes: 0.9 for the truth, 0.1 for the other.
    others = [math.log(chance) for chance in (0.2, 0.5, 0.1, 0.75)]
    smoothed = -sum(0.9 * log + 0.1 * other for log, other in zip(LOGS, others, strict=True)) / 4
    expect(cross_entropy(BINARY, FOUR_MASKS, FOUR_LOGITS, smoothing=0.2), smoothed)
    # 0.3 over three: 0.8, 0.1, 0.1.
    first = 0.8 * math.log(3 / 6) + 0.1 * math.log(1 / 6) + 0.1 * math.log(2 / 6)
    second = 0.8 * math.log(4 / 10) + 0.1 * math.log(1 / 10) + 0.1 * math.log(5 / 10)
    expect(cross_entropy(THREE, TWO_MASKS, TWO_LOGITS, smoothing=0.3), -(first + second) / 2)


def test_losses_of_overlapping_classes_leave_ignored_pixels_out():
    # Two classes; the pixels hold both, none, the second alone; a fourth is ignored, whatever else it holds.
    masks = tf.constant([[[0b11, 0, 0b10, IGNORE_BIT + 0b01]]], tf.uint16)
    chances = [[0.8, 0.5], [0.1, 0.25], [0.4, 0.9], [0.99, 0.01]]
    logits = tf.constant([[[[logit(value) for value in pair] for pair in chances]]], tf.float32)
    logs = [math.log(value) for value in (0.8, 0.5, 0.9, 0.75, 0.6, 0.9)]
    labels = Labels(2, overlapping=True)
    expect(cross_entropy(labels, masks, logits), -sum(logs) / 6)
    first = (2 * 0.8 + SMOOTH) / (0.8 + 0.1 + 0.4 + 1 + SMOOTH)
    second = (2 * (0.5 + 0.9) + SMOOTH) / (0.5 + 0.25 + 0.9 + 2 + SMOOTH)
    expect(dice(labels, masks, logits), 1 - (first + second) / 2)


def test_sigmoid_focal_loss_weighs_what_is_right_down():
    powers = (0.2**2, 0.5**2, 0.1**2, 0.75**2)
    alphas = (0.25, 0.75, 0.75, 0.25)
    terms = [power * log for power, log in zip(powers, LOGS, strict=True)]
    expect(focal(BINARY, FOUR_MASKS, FOUR_LOGITS, alpha=None, gamma=2), -sum(terms) / 4)
    expect(focal(BINARY, FOUR_MASKS, FOUR_LOGITS, alpha=0.25, gamma=2), -np.dot(alphas, terms) / 4)
    expect(focal(BINARY, FOUR_MASKS, FOUR_LOGITS, None, 2, [3, 1]), -np.dot((1, 3, 3, 1), terms) / 4)


def test_an_alpha_that_a_softmax_would_leave_unread_is_refused():
    config = LossConfig(terms={"focal": 1.0}, focal_alpha=0.5)
    make_loss(config, Labels(2))
    make_loss(config, Labels(3, overlapping=True))
    with pytest.raises(ValueError, match="loss.focal_alpha: found 0.5, which only sigmoids read; 3 exclusive classes"):
        make_loss(config, Labels(3))


def test_softmax_focal_loss_takes_class_weights_for_alphas():
    terms = 0.5**2 * math.log(0.5), 0.6**2 * math.log(0.4)
    expect(focal(THREE, TWO_MASKS, TWO_LOGITS, gamma=2), -sum(terms) / 2)
    expect(focal(THREE, TWO_MASKS, TWO_LOGITS, gamma=2, class_weights=[5, 7, 3]), -(3 * terms[0] + 5 * terms[1]) / 2)


def test_dice_loss_is_one_minus_dice():
    expect(dice(BINARY, FOUR_MASKS, FOUR_LOGITS), 1 - (2 * 1.05 + SMOOTH) / (1.65 + 2 + SMOOTH))


def test_dice_loss_of_several_classes_is_the_mean_over_them():
    # Every pixel gets probabilities 1/2, 1/4, 1/4; the truth is 0, 0, 2.
    masks = tf.constant([[[0, 0, 2]]], tf.uint8)
    logits = tf.tile(tf.constant([[[[math.log(2), 0.0, 0.0]]]]), [1, 1, 3, 1])
    scores = [(2 * 1 + 1) / (1.5 + 2 + 1), (0 + 1) / (0.75 + 0 + 1), (2 * 0.25 + 1) / (0.75 + 1 + 1)]
    expect(dice(THREE, masks, logits), 1 - np.mean(scores))


def test_jaccard_loss_is_one_minus_intersection_over_union():
    expect(jaccard(BINARY, FOUR_MASKS, FOUR_LOGITS), 1 - (1.05 + SMOOTH) / (1.05 + 0.6 + 0.95 + SMOOTH))


def test_tversky_loss_weighs_false_positives_by_alpha_and_false_negatives_by_beta():
    index = (1.05 + SMOOTH) / (1.05 + 0.3 * 0.6 + 0.7 * 0.95 + SMOOTH)
    expect(tversky(BINARY, FOUR_MASKS, FOUR_LOGITS, alpha=0.3, beta=0.7), 1 - index)
    expect(focal_tversky(BINARY, FOUR_MASKS, FOUR_LOGITS, alpha=0.3, beta=0.7, gamma=4 / 3), (1 - index) ** 0.75)


def test_focal_tversky_loss_of_several_classes_is_the_mean_of_their_powers():
    # TP, FP, FN: 4/10, 1/6, 6/10; 0, 2/6 + 1/10, 0; 3/6, 5/10, 3/6.
    counts = ((0.4, 1 / 6, 0.6), (0, 2 / 6 + 0.1, 0), (0.5, 0.5, 0.5))
    scores = [(tp + SMOOTH) / (tp + 0.2 * fp + 0.8 * fn + SMOOTH) for tp, fp, fn in counts]
    expected = np.mean([(1 - score) ** 0.5 for score in scores])
    expect(focal_tversky(THREE, TWO_MASKS, TWO_LOGITS, alpha=0.2, beta=0.8, gamma=2), expected)


def test_lovasz_hinge_weighs_sorted_errors_by_the_growth_of_the_jaccard_loss():
    # Errors 1 - 2 < 0, 1 - 0.5, 1 + 0.5, 1 + 1. The largest is of the class: Jaccard losses 1/2, 2/3, 3/4, 1.
    logits = tf.constant([2, -0.5, 0.5, -1], shape=[1, 2, 2, 1])
    expect(lovasz(BINARY, FOUR_MASKS, logits), 2 * 1 / 2 + 1.5 * (2 / 3 - 1 / 2) + 0.5 * (3 / 4 - 2 / 3))


def test_lovasz_hinge_of_an_empty_mask_is_its_largest_error():
    logits = tf.constant([2, -0.5, 0.5, -1], shape=[1, 2, 2, 1])
    expect(lovasz(BINARY, tf.zeros_like(FOUR_MASKS), logits), 1 + 2)


def test_lovasz_softmax_is_the_mean_over_the_classes_that_are_there():
    # Class 0: errors 0.6 where it is, 1/6 where not; the first alone makes its Jaccard loss 1. Class 2: 0.5 and 0.5.
    expect(lovasz(THREE, TWO_MASKS, TWO_LOGITS), (0.6 + 0.5) / 2)


def test_boundary_loss_weighs_errors_by_their_distance_to_the_boundary():
    masks = tf.constant([[[0, 0, 0], [0, 1, 0], [0, 0, 0]]], tf.uint8)
    logits = tf.fill([1, 3, 3, 1], logit(0.2))
    corners = 4 * (math.sqrt(2) - 0.5) * 0.2
    expect(boundary(BINARY, masks, logits), (0.5 * 0.8 + 4 * 0.5 * 0.2 + corners) / 9)
    expect(boundary(BINARY, masks, logits, reach=0.75), (0.5 * 0.8 + 4 * 0.5 * 0.2 + 4 * 0.75 * 0.2) / 9)


def test_balanced_weights_give_every_class_the_same_sum():
    assert balanced_weights([60, 30, 10], THREE) == pytest.approx([100 / 180, 100 / 90, 100 / 30])
    # A class that never comes counts neither as a class nor as pixels.
    assert balanced_weights([60, 0, 20], THREE) == pytest.approx([80 / 120, 1, 80 / 40])


def test_balanced_weights_need_pixels_of_exclusive_classes():
    with pytest.raises(ValueError, match="found none"):
        balanced_weights([0, 0], BINARY)
    with pytest.raises(ValueError, match="found overlapping ones"):
        balanced_weights([1, 2, 3], OVERLAPPING)


def test_every_setting_reaches_its_loss():
    settings = {"tversky_alpha": 0.2, "tversky_beta": 0.9}
    weights = [0.5, 3.0]
    cases = [
        (LossConfig({"bce": 1.0}, weights, 0.2), cross_entropy(BINARY, FOUR_MASKS, FOUR_LOGITS, weights, 0.2)),
        (
            LossConfig({"focal": 1.0}, weights, focal_alpha=0.4, focal_gamma=3.0),
            focal(BINARY, FOUR_MASKS, FOUR_LOGITS, 0.4, 3.0, weights),
        ),
        (LossConfig({"tversky": 1.0}, **settings), tversky(BINARY, FOUR_MASKS, FOUR_LOGITS, 0.2, 0.9)),
        (
            LossConfig({"focal_tversky": 1.0}, **settings, focal_tversky_gamma=2.0),
            focal_tversky(BINARY, FOUR_MASKS, FOUR_LOGITS, 0.2, 0.9, 2.0),
        ),
        (LossConfig({"boundary": 1.0}, boundary_reach=0.25), boundary(BINARY, FOUR_MASKS, FOUR_LOGITS, 0.25)),
    ]
    for config, expected in cases:
        np.testing.assert_array_equal(make_loss(config, BINARY)(FOUR_MASKS, FOUR_LOGITS), expected)


def test_class_weights_handed_over_stand_for_balanced_ones():
    config = LossConfig({"bce": 1.0}, "balanced")
    found = make_loss(config, BINARY, [0.5, 3.0])(FOUR_MASKS, FOUR_LOGITS)
    np.testing.assert_array_equal(found, cross_entropy(BINARY, FOUR_MASKS, FOUR_LOGITS, [0.5, 3.0]))
    with pytest.raises(ValueError, match="see balanced_weights"):
        make_loss(config, BINARY)
    with pytest.raises(ValueError, match=r"expected 3 numbers, one for each class, found \[0.5, 3.0\]"):
        make_loss(config, THREE, [0.5, 3.0])


def plain_lovasz(errors: np.ndarray, truth: np.ndarray) -> float:
    """The extension as an integral over thresholds: the Jaccard loss if the pixels with larger errors are wrong."""
    total, below = 0.0, 0.0
    for threshold in np.unique(errors[errors > 0]):
        predicted = truth ^ (errors >= threshold)
        total += (threshold - below) * (1 - (predicted & truth).sum() / (predicted | truth).sum())
        below = threshold
    return total


@KINDS
@pytest.mark.parametrize("share", [0.5, 0.02, 0.0])
def test_lovasz_equals_the_integral_over_thresholds(labels, share):
    masks, logits = random_example(labels, 0, 4, 12, 10)
    masks[np.random.default_rng(1).random(masks.shape) > share] = 0
    targets, _ = labels.targets(tf.constant(masks))
    truths, probabilities = targets.numpy() > 0, labels.probabilities(logits).numpy().astype(float)
    expected = []
    for index in range(4):
        losses = []
        for output in range(labels.outputs):
            truth, logit_map = truths[index, ..., output], logits[index, ..., output].astype(float)
            hinge = np.maximum(0, 1 - np.where(truth, 1, -1) * logit_map)
            errors = abs(truth - probabilities[index, ..., output]) if labels.softmax else hinge
            if truth.any() or not labels.softmax:
                losses.append(plain_lovasz(errors, truth))
        expected.append(np.mean(losses))
    np.testing.assert_allclose(lovasz(labels, tf.constant(masks), tf.constant(logits)), expected, rtol=1e-5)


@KINDS
def test_sums_over_pixels_equal_plain_ones(labels):
    masks, logits = random_example(labels, 1, 2, 5, 6)
    targets = labels.targets(tf.constant(masks))[0].numpy().astype(float)
    p = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(-1, keepdims=True)
    p = p if labels.softmax else 1 / (1 + np.exp(-logits.astype(float)))
    true = (p * targets).sum(-1) if labels.softmax else np.where(targets > 0, p, 1 - p)
    tp, fp, fn = ((a * b).sum((1, 2)) for a, b in ((p, targets), (p, 1 - targets), (1 - p, targets)))
    axes = tuple(range(1, true.ndim))
    expected = {
        cross_entropy: -np.log(true).mean(axes),
        dice: 1 - ((2 * tp + 1) / (2 * tp + fp + fn + 1)).mean(-1),
        jaccard: 1 - ((tp + 1) / (tp + fp + fn + 1)).mean(-1),
        tversky: 1 - ((tp + 1) / (tp + 0.3 * fp + 0.7 * fn + 1)).mean(-1),
        focal_tversky: ((1 - (tp + 1) / (tp + 0.3 * fp + 0.7 * fn + 1)) ** 0.75).mean(-1),
    }
    for loss, values in expected.items():
        np.testing.assert_allclose(loss(labels, tf.constant(masks), tf.constant(logits)), values, rtol=1e-5)
    unweighted = focal(labels, tf.constant(masks), tf.constant(logits), alpha=None, gamma=1.5)
    np.testing.assert_allclose(unweighted, -((1 - true) ** 1.5 * np.log(true)).mean(axes), rtol=1e-5)
