"""Dice and IoU that accumulate sums, so they are right for any batch size and any number of replicas.

Definitions (tp, fp, fn in pixels of one class): Dice = 2 tp / (2 tp + fp + fn), IoU = tp / (tp + fp + fn).
Where truth and prediction are both empty, an image scores 1 "per image", is left out of "nonempty", and adds nothing
to "pooled". With several classes, an image's score is the mean over classes.
"""

from collections.abc import Sequence

import tensorflow as tf
from tensorflow import keras

from model.labels import Labels


def count_pixels(labels: Labels, masks: tf.Tensor, predicted: tf.Tensor, classes: Sequence[int]) -> tf.Tensor:
    """Returns (tp, fp, fn, tn) of each image and class over pixels not ignored, float32 [batch, classes, 4].

    float32 counts exactly up to 16.7 million, the pixels of one image of 4096x4096.

    Args:
      labels: what masks mean.
      masks, predicted: uint8 class indices or uint16 bit fields [batch, height, width].
      classes: the classes to count.
    """
    valid = labels.valid(masks)
    counts = []
    for number in classes:
        true, found = labels.holds(masks, number), labels.holds(predicted, number)
        cells = (true & found, found & ~true, true & ~found, ~true & ~found)
        counts.append(tf.stack([tf.reduce_sum(tf.cast(cell & valid, tf.float32), [1, 2]) for cell in cells], -1))
    return tf.stack(counts, 1)


class Overlap(keras.metrics.Metric):
    """Dice and IoU: per image, over non-empty images, and pooled over all pixels."""

    def __init__(self, num_classes: int):
        """Makes the sums for as many classes as are counted."""
        super().__init__(name="overlap", dtype=tf.float32)
        self.pooled = self.add_weight("pooled", shape=(num_classes, 3), initializer="zeros", dtype=tf.float64)
        self.sums = self.add_weight("sums", shape=(4,), initializer="zeros", dtype=tf.float64)
        self.counts = self.add_weight("counts", shape=(2,), initializer="zeros", dtype=tf.float64)

    def update_state(self, counts, weights=None):
        """Adds images.

        Args:
          counts: float32 [batch, classes, 4], as `count_pixels` returns it.
          weights: float32 [batch], 0 for padding.
        """
        counts = tf.cast(counts, tf.float64)
        weights = tf.ones([tf.shape(counts)[0]], tf.float64) if weights is None else tf.cast(weights, tf.float64)
        tp, fp, fn = (counts[..., index] for index in range(3))
        union = tp + fp + fn
        present = tf.cast(union > 0, tf.float64)
        # [batch, classes]; 1 - present makes empty against empty score 1.
        dice = tf.math.divide_no_nan(2 * tp, tp + union) + 1 - present
        iou = tf.math.divide_no_nan(tp, union) + 1 - present
        nonempty = tf.reduce_max(present, 1)  # an image is empty if every class is

        def mean_present(scores):
            return tf.math.divide_no_nan(tf.reduce_sum(scores * present, 1), tf.reduce_sum(present, 1))

        per_image = [tf.reduce_mean(dice, 1), mean_present(dice), tf.reduce_mean(iou, 1), mean_present(iou)]
        self.sums.assign_add(tf.stack([tf.reduce_sum(weights * values) for values in per_image]))
        self.counts.assign_add(tf.stack([tf.reduce_sum(weights), tf.reduce_sum(weights * nonempty)]))
        self.pooled.assign_add(tf.einsum("b,bck->ck", weights, counts[..., :3]))

    def result(self):
        """Returns a dict of six scalars."""
        tp, fp, fn = self.pooled[:, 0], self.pooled[:, 1], self.pooled[:, 2]
        dice = tf.math.divide_no_nan(2 * tp, 2 * tp + fp + fn)
        iou = tf.math.divide_no_nan(tp, tp + fp + fn)
        images, nonempty = self.counts[0], self.counts[1]
        return {
            "dice_per_image": tf.math.divide_no_nan(self.sums[0], images),
            "dice_nonempty": tf.math.divide_no_nan(self.sums[1], nonempty),
            "dice_pooled": tf.reduce_mean(dice),
            "iou_per_image": tf.math.divide_no_nan(self.sums[2], images),
            "iou_nonempty": tf.math.divide_no_nan(self.sums[3], nonempty),
            "iou_pooled": tf.reduce_mean(iou),
        }

    def reset_state(self):
        """Sets all sums to 0; Keras' own can do so for scalars only."""
        for variable in self.variables:
            variable.assign(tf.zeros(variable.shape, variable.dtype))
