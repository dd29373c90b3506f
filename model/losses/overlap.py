"""Losses that are 1 - a soft overlap of prediction and truth, the mean over outputs.

With probabilities p and truths t, summed over the valid pixels of one example: TP = sum p t, FP = sum p (1 - t),
FN = sum (1 - p) t. All arguments as those of `cross_entropy`; all return float32 [batch].
"""

import tensorflow as tf

from model.labels import Labels

SMOOTH = 1.0
"""Added to numerator and denominator of every overlap, in pixels: an empty mask then has a gradient that is finite,
and predicting nothing on it costs nothing."""

# Below it a loss counts as 0, as the gradient of its root goes to infinity there.
_TINY = 1e-7


def dice(labels: Labels, masks: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns 1 - soft Dice.

    Dice = (2 TP + s) / (2 TP + FP + FN + s) = (2 sum(p t) + s) / (sum(p) + sum(t) + s), with s = `SMOOTH` (Milletari et
    al. 2016, arXiv:1606.04797, without their squares).
    """
    tp, fp, fn = _soft_counts(labels, masks, logits)
    return _mean_loss(2 * tp, fp + fn)


def jaccard(labels: Labels, masks: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns 1 - soft Jaccard index (IoU).

    Jaccard = (TP + s) / (TP + FP + FN + s), with s = `SMOOTH` (Rahman and Wang 2016, doi:10.1007/978-3-319-50835-1_22).
    """
    tp, fp, fn = _soft_counts(labels, masks, logits)
    return _mean_loss(tp, fp + fn)


def tversky(labels: Labels, masks: tf.Tensor, logits: tf.Tensor, alpha: float = 0.3, beta: float = 0.7) -> tf.Tensor:
    """Returns 1 - soft Tversky index.

    Tversky = (TP + s) / (TP + alpha FP + beta FN + s), with s = `SMOOTH` (Salehi et al. 2017, arXiv:1706.05721). With
    alpha = beta = 1 it is Jaccard's.
    """
    tp, fp, fn = _soft_counts(labels, masks, logits)
    return _mean_loss(tp, alpha * fp + beta * fn)


def focal_tversky(
    labels: Labels,
    masks: tf.Tensor,
    logits: tf.Tensor,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 4 / 3,
) -> tf.Tensor:
    """Returns (1 - soft Tversky index)^(1 / gamma), the mean over outputs after the power.

    From Abraham and Khan 2018, arXiv:1810.07842; alpha and beta are those of `tversky`, while that paper has them the
    other way round. Above 1, gamma makes the gradient larger where the overlap is good already.
    """
    tp, fp, fn = _soft_counts(labels, masks, logits)
    misses = alpha * fp + beta * fn
    losses = misses / (tp + misses + SMOOTH)
    roots = tf.pow(tf.maximum(losses, _TINY), 1 / gamma)
    return tf.reduce_mean(tf.where(losses > _TINY, roots, 0.0), -1)


def _soft_counts(labels: Labels, masks: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns (TP, FP, FN), each float32 [batch, outputs]."""
    targets, valid = labels.targets(masks)
    predicted = labels.probabilities(logits)
    pairs = ((predicted, targets), (predicted, 1 - targets), (1 - predicted, targets))
    return tuple(tf.reduce_sum(one * other * valid, [1, 2]) for one, other in pairs)


def _mean_loss(hits: tf.Tensor, misses: tf.Tensor) -> tf.Tensor:
    """Returns 1 - (hits + s) / (hits + misses + s), which is never negative this way, as the mean over outputs."""
    return tf.reduce_mean(misses / (hits + misses + SMOOTH), -1)
