"""Losses on float32 logits, one value per example; pixels labelled 255 count in none.

Per example, so that averaging over the global batch is the same for any number of replicas, and padding can be
weighted away. Sums run in float32: in float16 the sum of one 256x256 mask is already infinite.
"""

from collections.abc import Callable

import tensorflow as tf

from model.prediction import probabilities

IGNORE = 255
"""Mask value of pixels where nothing is known."""

SMOOTH = 1.0
"""Added to numerator and denominator of the Dice loss, in pixels: an empty mask then has a gradient that is finite,
and predicting nothing on it costs nothing."""


def targets_of(masks: tf.Tensor, outputs: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (targets float32 [batch, height, width, outputs], valid float32 [batch, height, width, 1]).

    Args:
      masks: uint8 [batch, height, width], class indices.
      outputs: 1 (class 1 against the rest) or the number of classes (one-hot).
    """
    valid = tf.cast(masks != IGNORE, tf.float32)[..., None]
    if outputs == 1:
        return tf.cast(masks == 1, tf.float32)[..., None], valid
    return tf.one_hot(masks, outputs), valid  # 255 is out of range: all zero


def cross_entropy(masks: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the mean cross-entropy over valid pixels, float32 [batch]: binary (BCE) for one output, else softmax."""
    logits = tf.cast(logits, tf.float32)
    targets, valid = targets_of(masks, logits.shape[-1])
    if logits.shape[-1] == 1:
        values = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
    else:
        values = tf.nn.softmax_cross_entropy_with_logits(targets, logits)[..., None]
    return tf.reduce_sum(values * valid, [1, 2, 3]) / tf.maximum(tf.reduce_sum(valid, [1, 2, 3]), 1.0)


def dice(masks: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns 1 - soft Dice, the mean over outputs, float32 [batch].

    Dice = (2 sum(p t) + s) / (sum(p) + sum(t) + s) over the valid pixels of one example, with s = `SMOOTH`
    (Milletari et al. 2016, arXiv:1606.04797, without their squares).
    """
    targets, valid = targets_of(masks, logits.shape[-1])
    predicted = probabilities(logits) * valid
    targets *= valid
    overlap = tf.reduce_sum(predicted * targets, [1, 2])
    total = tf.reduce_sum(predicted, [1, 2]) + tf.reduce_sum(targets, [1, 2])
    return 1 - tf.reduce_mean((2 * overlap + SMOOTH) / (total + SMOOTH), -1)


def cross_entropy_dice(masks: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the sum of cross-entropy and Dice loss, float32 [batch]."""
    return cross_entropy(masks, logits) + dice(masks, logits)


LOSSES: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "bce": cross_entropy,
    "dice": dice,
    "bce_dice": cross_entropy_dice,
}
"""By the name of the flag. With more than two classes "bce" means softmax cross-entropy."""
