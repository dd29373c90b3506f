"""The boundary loss, and the exact Euclidean distance transform that it needs.

In plain TensorFlow: Addons' transform exists, but XLA cannot compile it.
"""

import math

import tensorflow as tf

from model.labels import Labels


def boundary(labels: Labels, masks: tf.Tensor, logits: tf.Tensor, reach: float | None = None) -> tf.Tensor:
    """Returns the mean over valid pixels and outputs of D |p - t|, float32 [batch].

    D is the distance of a pixel to the boundary of the truth, in pixels: that to the nearest valid pixel on the other
    side, less 1/2, as the boundary runs between pixels. Where a mask has no boundary, all or nothing of the class, D is
    0: so this loss goes with another.

    It is Kervadec et al. 2019, arXiv:1812.07032, mean(phi p) with phi = -D within the class and D outside, less its
    value for p = t: the gradient is the same, and a perfect prediction costs 0.

    Args:
      labels, masks, logits: as those of `cross_entropy`.
      reach: D is at most this; None for no limit.
    """
    targets, valid = labels.targets(masks)
    errors = tf.abs(labels.probabilities(logits) - targets) * valid
    distances = boundary_distances((targets * valid) > 0, ((1 - targets) * valid) > 0, reach)
    values = tf.reduce_mean(distances * errors, -1, keepdims=True)
    return tf.reduce_sum(values, [1, 2, 3]) / tf.maximum(tf.reduce_sum(valid, [1, 2, 3]), 1.0)


def boundary_distances(inside: tf.Tensor, outside: tf.Tensor, reach: float | None = None) -> tf.Tensor:
    """Returns the distance of each pixel to the boundary between two kinds, float32 [batch, height, width, outputs].

    Where a mask lacks one of the kinds, it is 0; what it is for pixels of neither kind has no meaning.

    Args:
      inside, outside: bool [batch, height, width, outputs].
      reach: the largest distance; None for no limit.
    """
    reach = math.inf if reach is None else reach
    kinds = tf.concat([outside, inside], -1)
    to_outside, to_inside = tf.split(tf.sqrt(squared_distances(kinds, reach + 1)), 2, -1)
    exists = tf.reduce_any(inside, [1, 2], keepdims=True) & tf.reduce_any(outside, [1, 2], keepdims=True)
    distances = tf.minimum(tf.where(inside, to_outside, to_inside) - 0.5, reach)
    return tf.where(exists, distances, 0.0)


def squared_distances(seeds: tf.Tensor, reach: float = math.inf) -> tf.Tensor:
    """Returns the squared distance of each pixel to the nearest seed, float32 of the seeds' shape; 0 if there is none.

    Exact up to the reach, and more than its square beyond. Along rows first, then the least of those along columns, as
    Felzenszwalb and Huttenlocher 2012 do it (doi:10.4086/toc.2012.v008a019), but with all pixels at once: the work is
    the number of pixels times the largest distance along a column that occurs.

    Args:
      seeds: bool [batch, height, width, outputs].
      reach: in pixels.
    """
    start = tf.where(seeds, 0.0, math.inf)
    rows = tf.transpose(_distances_along(tf.transpose(start, [0, 2, 1, 3])), [0, 2, 1, 3])
    # Images without seeds would keep the search going to its end.
    rows = tf.where(tf.reduce_any(seeds, [1, 2], keepdims=True), rows, 0.0)
    return _least_along(tf.square(rows), reach)


def _distances_along(start: tf.Tensor) -> tf.Tensor:
    """Returns the distance along axis 1 to the nearest 0, infinite where there is none. `start` is 0 or infinite."""
    length = tf.shape(start)[1]

    def double(step, distances):
        # Distances up to 2 step - 1 are made of those up to step - 1.
        return 2 * step, _least_of_three(distances, _padded(distances), step, tf.cast(step, tf.float32))

    return tf.while_loop(lambda step, _: step < length, double, (1, start))[1]


def _least_along(squared: tf.Tensor, reach: float) -> tf.Tensor:
    """Returns the least over offsets k along axis 1 of squared[y + k] + k^2, |k| <= reach."""
    length = tf.shape(squared)[1]
    padded = _padded(squared)

    def goes_on(offset, least):
        distance = tf.cast(offset, tf.float32)
        return (offset < length) & (distance <= reach) & (tf.square(distance) < tf.reduce_max(least))

    def widen(offset, least):
        return offset + 1, _least_of_three(least, padded, offset, tf.square(tf.cast(offset, tf.float32)))

    return tf.while_loop(goes_on, widen, (1, squared))[1]


def _padded(values: tf.Tensor) -> tf.Tensor:
    """Returns values with infinities before and behind them along axis 1, as many as they are."""
    beyond = tf.fill(tf.shape(values), math.inf)
    return tf.concat([beyond, values, beyond], 1)


def _least_of_three(values: tf.Tensor, padded: tf.Tensor, offset: tf.Tensor, cost: tf.Tensor) -> tf.Tensor:
    """Returns the least of values and of the padded ones at this offset on either side, plus the cost."""
    shape = tf.shape(values)
    before, behind = (tf.slice(padded, tf.stack([0, shape[1] + sign * offset, 0, 0]), shape) for sign in (-1, 1))
    return tf.ensure_shape(tf.minimum(values, tf.minimum(before, behind) + cost), values.shape)
