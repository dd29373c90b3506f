"""Losses that are means over pixels: cross-entropy and focal loss, both with weights of the classes."""

from collections.abc import Sequence

import tensorflow as tf

from model import addons
from model.labels import Labels


def cross_entropy(
    labels: Labels,
    masks: tf.Tensor,
    logits: tf.Tensor,
    class_weights: Sequence[float] | None = None,
    smoothing: float = 0.0,
) -> tf.Tensor:
    """Returns the mean cross-entropy over valid pixels, float32 [batch].

    Softmax: -w(y) sum_c t_c log p_c with w(y) the weight of the true class. Sigmoids, binary cross-entropy (BCE): the
    mean over outputs of -w (t log p + (1 - t) log(1 - p)). Weighted pixels are divided by their number, not by the sum
    of their weights: an image without a rare class then counts less than one with it.

    Smoothing e turns t into (1 - e) t + e / K with K exclusive classes, K = 2 for a sigmoid (Szegedy et al. 2015,
    arXiv:1512.00567, section 7). Weights follow the class before smoothing.

    Args:
      labels: what masks and logits mean.
      masks: uint8 or uint16 [batch, height, width].
      logits: [batch, height, width, outputs].
      class_weights: one for each class; None for 1.
      smoothing: from 0 to below 1.
    """
    logits = tf.cast(logits, tf.float32)
    targets, valid = labels.targets(masks)
    weights = _pixel_weights(labels, targets, class_weights)
    soft = (1 - smoothing) * targets + smoothing / (labels.outputs if labels.softmax else 2)
    if labels.softmax:
        values = tf.nn.softmax_cross_entropy_with_logits(soft, logits)[..., None]
    else:
        values = tf.nn.sigmoid_cross_entropy_with_logits(soft, logits)
    return _mean(weights * values, valid)


def focal(
    labels: Labels,
    masks: tf.Tensor,
    logits: tf.Tensor,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    class_weights: Sequence[float] | None = None,
) -> tf.Tensor:
    """Returns the mean focal loss over valid pixels, float32 [batch].

    -a w (1 - p_t)^gamma log p_t with p_t the probability given to the truth (Lin et al. 2017, arXiv:1708.02002, which
    divides by the number of objects' anchors where this divides by pixels). Sigmoids: the mean over outputs, a = alpha
    where a pixel holds the class, 1 - alpha elsewhere. Softmax: a = 1, the class weights w are the paper's alphas.

    Args:
      labels, masks, logits: as those of `cross_entropy`.
      alpha: between 0 and 1; None for a = 1.
      gamma: at least 1.
      class_weights: one for each class; None for 1.
    """
    logits = tf.cast(logits, tf.float32)
    targets, valid = labels.targets(masks)
    weights = _pixel_weights(labels, targets, class_weights)
    if labels.softmax:
        log_true = tf.reduce_sum(targets * tf.nn.log_softmax(logits), -1, keepdims=True)
        # Rounding may leave log p above 0, of which no power is defined.
        values = -tf.pow(tf.maximum(-tf.math.expm1(log_true), 0.0), gamma) * log_true
    else:
        values = addons.sigmoid_focal(targets, logits, alpha, gamma)
    return _mean(weights * values, valid)


def balanced_weights(class_pixels: Sequence[int], labels: Labels) -> list[float]:
    """Returns a weight for each class: w_c = N / (K n_c), n_c its pixels, N those of all K classes that have any.

    So every class weighs as much in sum, and a pixel 1 on average. A class without pixels weighs 1.

    Args:
      class_pixels: pixels of each class, without ignored ones.
      labels: what masks mean.

    Raises:
      ValueError: classes overlap, or there are no pixels of any.
    """
    if labels.overlapping:
        raise ValueError(
            "loss.class_weights: expected exclusive classes for balanced, found overlapping ones, whose pixels do not "
            "add up; give a list of numbers"
        )
    present = sum(count > 0 for count in class_pixels)
    if not present:
        raise ValueError("loss.class_weights: expected pixels of some class for balanced, found none; are there masks?")
    return [sum(class_pixels) / (present * count) if count else 1.0 for count in class_pixels]


def _pixel_weights(labels: Labels, targets: tf.Tensor, class_weights: Sequence[float] | None) -> tf.Tensor | float:
    """Returns what pixels weigh by their classes, to be broadcast to [batch, height, width, outputs]."""
    if class_weights is None:
        return 1.0
    weights = tf.constant(class_weights, tf.float32)
    if labels.softmax:
        return tf.reduce_sum(targets * weights, -1, keepdims=True)
    # Overlapping classes have no background whose weight pixels without the class could take.
    held, not_held = (weights, 1.0) if labels.overlapping else (weights[1:], weights[:1])
    return targets * held + (1 - targets) * not_held


def _mean(values: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Returns the mean over valid pixels of the mean over outputs, float32 [batch]; 0 where no pixel is valid."""
    values = tf.reduce_mean(values, -1, keepdims=True) * valid
    return tf.reduce_sum(values, [1, 2, 3]) / tf.maximum(tf.reduce_sum(valid, [1, 2, 3]), 1.0)
