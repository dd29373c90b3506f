"""The Lovász losses: a piecewise linear bound of the Jaccard loss of thresholded predictions."""

import tensorflow as tf

from model.labels import Labels


def lovasz(labels: Labels, masks: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the Lovász hinge, or Lovász-Softmax where classes are exclusive, float32 [batch].

    The sum over valid pixels of e_i (J_i - J_(i-1)), pixels sorted by falling error e, with J_i = 1 - (G - tp_i) /
    (G + fp_i): the Jaccard loss if the first i pixels are the wrong ones, tp_i of them of the class, fp_i not, G pixels
    of the class in all (Berman et al. 2018, arXiv:1705.08790; the hinge is Yu and Blaschko's, arXiv:1512.07797).

    Sigmoids: e = max(0, 1 - logit) where a pixel holds the class, max(0, 1 + logit) elsewhere; the mean over outputs.
    Softmax: e = |t - p|; the mean over the classes that the mask holds. Arguments as those of `cross_entropy`.
    """
    targets, valid = labels.targets(masks)
    targets *= valid
    if labels.softmax:
        errors = tf.abs(targets - labels.probabilities(logits)) * valid
        counted = tf.reduce_max(targets, [1, 2])
    else:
        errors = tf.nn.relu(1 - (2 * targets - 1) * tf.cast(logits, tf.float32)) * valid
        counted = tf.ones_like(targets[:, 0, 0])
    losses = _extension(tf.transpose(errors, [0, 3, 1, 2]), tf.transpose(targets, [0, 3, 1, 2]))
    return tf.math.divide_no_nan(tf.reduce_sum(losses * counted, -1), tf.reduce_sum(counted, -1))


def _extension(errors: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns the Lovász extension of the Jaccard loss, float32 [batch, outputs].

    The differences of J are not taken between J: these lie so close to each other in large images that float32 would
    leave little of them. A pixel of the class adds 1 / (G + fp_i), another (G - tp_i) / ((G + fp_i)(G + fp_i - 1)); the
    first pixel adds 1 where there is none of the class.

    Args:
      errors: float32 [batch, outputs, height, width], 0 for ignored ones: they come last, and add nothing.
      targets: 0 or 1, of that shape, 0 for ignored ones.
    """
    shape = tf.shape(errors)
    pixels = shape[2] * shape[3]
    flat = tf.concat([shape[:2], [pixels]], 0)
    ordered, order = tf.math.top_k(tf.reshape(errors, flat), pixels)
    held = tf.gather(tf.reshape(targets, flat), order, batch_dims=2)
    # Of whole numbers, hence exact up to 16.7 million pixels.
    total = tf.reduce_sum(held, -1, keepdims=True)
    tp = _running_sum(held, shape)
    union = total + _running_sum(1 - held, shape)
    steps = tf.where(held > 0, 1 / union, (total - tp) / (union * tf.maximum(union - 1, 1)))
    steps = tf.where(total > 0, steps, tf.one_hot(0, pixels))
    return tf.reduce_sum(ordered * tf.stop_gradient(steps), -1)


def _running_sum(values: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Returns the cumulative sum over the last axis of [batch, outputs, height * width].

    In two levels, rows of the image's width and their totals: XLA's cumulative sum on a CPU takes the square of the
    length, minutes for a million pixels.
    """
    rows = tf.cumsum(tf.reshape(values, shape), 3)
    before = tf.cumsum(rows[..., -1:], 2, exclusive=True)
    return tf.reshape(rows + before, tf.shape(values))
