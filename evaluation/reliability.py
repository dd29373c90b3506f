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
        batch = tf.shape(masks)[0]
        # Ignored pixels go to a segment behind all others.
        images = tf.where(valid, tf.range(batch)[:, None, None], batch)
        counts = []
        for column, number in enumerate(classes):
            one = probabilities[..., number if labels.softmax else column]
            bins = tf.minimum(tf.cast(one * BINS, tf.int32), BINS - 1)
            segments = tf.reshape(images * BINS + bins, [-1])
            total = (batch + 1) * BINS
            true = tf.cast(labels.holds(masks, number), tf.float64)
            columns = [tf.ones_like(true), tf.cast(one, tf.float64), true]
            sums = tf.math.unsorted_segment_sum(tf.reshape(tf.stack(columns, -1), [-1, 3]), segments, total)
            counts.append(tf.reshape(sums, [batch + 1, BINS, 3])[:-1])
        return {"calibration": tf.stack(counts, 1)}

    return measure
