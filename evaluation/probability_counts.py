"""Counts what calibration is made of, where probabilities are: on the device."""

import tensorflow as tf

from evaluation.calibration import BINS
from inference.predictor import Measure


def count_probabilities(labels, classes) -> Measure:
    """Returns a function that counts pixels by their probability.

    Args:
      labels: what the model's outputs mean.
      classes: numbers of those that are scored.

    Returns:
      A function (probabilities float32 [batch, height, width, outputs], masks [batch, height, width]) ->
      {"calibration": float64 [batch, classes, bins, 3]}, see `evaluation.calibration.calibration_error`.
    """

    def measure(probabilities: tf.Tensor, masks: tf.Tensor) -> dict[str, tf.Tensor]:
        valid = labels.valid(masks)
        counts = []
        for column, number in enumerate(classes):
            one = probabilities[..., number if labels.softmax else column]
            bins = tf.where(valid, tf.minimum(tf.cast(one * BINS, tf.int32), BINS - 1), -1)
            true = tf.cast(labels.holds(masks, number), tf.float32)
            # A sum for each bin: scattering pixels to few bins is slow, on GPUs they all wait for the same.
            inside = [tf.cast(bins == index, tf.float32) for index in range(BINS)]
            sums = [tf.stack([_sum(one_bin), _sum(one_bin * one), _sum(one_bin * true)], -1) for one_bin in inside]
            counts.append(tf.stack(sums, 1))
        return {"calibration": tf.stack(counts, 1)}

    return measure


def _sum(values: tf.Tensor) -> tf.Tensor:
    """Returns float64 [batch] of float32 [batch, height, width], exact of whole numbers: those of a row are few."""
    return tf.reduce_sum(tf.cast(tf.reduce_sum(values, 2), tf.float64), 1)
