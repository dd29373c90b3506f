"""Losses on float32 logits, one value per example; ignored pixels count in none.

Per example, so that averaging over the global batch is the same for any number of replicas, and padding can be
weighted away. Sums run in float32: in float16 the sum of one 256x256 mask is already infinite.
"""

from collections.abc import Callable

import tensorflow as tf

from model.labels import Labels

SMOOTH = 1.0
"""Added to numerator and denominator of the Dice loss, in pixels: an empty mask then has a gradient that is finite,
and predicting nothing on it costs nothing."""


def cross_entropy(labels: Labels, masks: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the mean cross-entropy over valid pixels, float32 [batch].

    Softmax cross-entropy, or binary cross-entropy (BCE) where outputs are sigmoids: its mean over the outputs.

    Args:
      labels: what masks and logits mean.
      masks: uint8 or uint16 [batch, height, width].
      logits: [batch, height, width, outputs].
    """
    logits = tf.cast(logits, tf.float32)
    targets, valid = labels.targets(masks)
    if labels.softmax:
        values = tf.nn.softmax_cross_entropy_with_logits(targets, logits)[..., None]
    else:
        values = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits), -1, keepdims=True)
    return tf.reduce_sum(values * valid, [1, 2, 3]) / tf.maximum(tf.reduce_sum(valid, [1, 2, 3]), 1.0)


def dice(labels: Labels, masks: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns 1 - soft Dice, the mean over outputs, float32 [batch]. Arguments as those of `cross_entropy`.

    Dice = (2 sum(p t) + s) / (sum(p) + sum(t) + s) over the valid pixels of one example, with s = `SMOOTH`
    (Milletari et al. 2016, arXiv:1606.04797, without their squares).
    """
    targets, valid = labels.targets(masks)
    predicted = labels.probabilities(logits) * valid
    targets *= valid
    overlap = tf.reduce_sum(predicted * targets, [1, 2])
    total = tf.reduce_sum(predicted, [1, 2]) + tf.reduce_sum(targets, [1, 2])
    return 1 - tf.reduce_mean((2 * overlap + SMOOTH) / (total + SMOOTH), -1)


def cross_entropy_dice(labels: Labels, masks: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the sum of cross-entropy and Dice loss, float32 [batch]."""
    return cross_entropy(labels, masks, logits) + dice(labels, masks, logits)


LOSSES: dict[str, Callable[[Labels, tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "bce": cross_entropy,
    "dice": dice,
    "bce_dice": cross_entropy_dice,
}
"""By the name of the flag. With more than two exclusive classes "bce" means softmax cross-entropy."""
