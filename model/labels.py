"""What the values of masks and the outputs of a model mean.

Three cases: two exclusive classes have one output (sigmoid: class 1 against the rest); more exclusive classes have one
each (softmax); overlapping classes have one each, every one a sigmoid of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

IGNORE = 255
"""Mask value of pixels where nothing is known."""

IGNORE_BIT = 1 << 15
"""The same for masks of overlapping classes, which are bit fields: bit k is class k."""


def ignore_value(dtype: tf.DType) -> int:
    """Returns what marks an ignored pixel in masks of class indices (uint8) or of bit fields (uint16)."""
    return IGNORE_BIT if dtype == tf.uint16 else IGNORE


@dataclass(frozen=True)
class Labels:
    """The classes of a dataset.

    Attributes:
      num_classes: with the background, where there is one.
      overlapping: a pixel may belong to several classes, or to none; masks are bit fields then, else class indices.
    """

    num_classes: int
    overlapping: bool = False

    @property
    def outputs(self) -> int:
        """Number of logits per pixel."""
        return 1 if self.num_classes == 2 and not self.overlapping else self.num_classes

    @property
    def softmax(self) -> bool:
        """Whether the outputs' probabilities add up to 1; else each is the sigmoid of its logit."""
        return not self.overlapping and self.outputs > 1

    @property
    def mask_dtype(self) -> tf.DType:
        """Of masks."""
        return tf.uint16 if self.overlapping else tf.uint8

    def valid(self, masks: tf.Tensor) -> tf.Tensor:
        """Returns bool [batch, height, width]: where something is known."""
        return masks < IGNORE_BIT if self.overlapping else masks != IGNORE

    def holds(self, masks: tf.Tensor, number: int) -> tf.Tensor:
        """Returns bool [batch, height, width]: where masks, uint8 or uint16 of that shape, hold this class."""
        if not self.overlapping:
            return masks == number
        return tf.bitwise.bitwise_and(masks, tf.constant(1 << number, masks.dtype)) > 0

    def targets(self, masks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what the outputs' probabilities should be, and where.

        Args:
          masks: uint8 class indices or uint16 bit fields [batch, height, width].

        Returns:
          (targets float32 [batch, height, width, outputs], valid float32 [batch, height, width, 1]).
        """
        valid = tf.cast(self.valid(masks), tf.float32)[..., None]
        if self.softmax:
            return tf.one_hot(masks, self.num_classes), valid  # 255 is out of range: all zero
        numbers = range(self.num_classes) if self.overlapping else [1]
        return tf.cast(tf.stack([self.holds(masks, number) for number in numbers], -1), tf.float32), valid

    def probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns float32 probabilities of the logits' shape [..., outputs]."""
        logits = tf.cast(logits, tf.float32)
        return tf.nn.softmax(logits) if self.softmax else tf.sigmoid(logits)

    def classify(self, probabilities: tf.Tensor, threshold: float | Sequence[float]) -> tf.Tensor:
        """Returns the predicted masks [...]: uint8 class indices or, where classes overlap, uint16 bit fields.

        Args:
          probabilities: float32 [..., outputs].
          threshold: probability from which a pixel belongs to a class, of all outputs or of each. With a softmax the
            class with the largest p·(1 - threshold)/threshold counts: equal thresholds give the most probable class,
            and between a class and one with a threshold of 0.5 it is decided by the share that the first has of both.
        """
        if self.softmax:
            thresholds = np.asarray(threshold, np.float64)
            weights = ((1 - thresholds) / thresholds).astype(np.float32)
            return tf.cast(tf.argmax(probabilities * weights, -1), tf.uint8)
        found = probabilities >= threshold
        if not self.overlapping:
            return tf.cast(found[..., 0], tf.uint8)
        # In float32, where every such sum is exact: TensorFlow's int32 sums leave the GPU.
        bits = tf.constant([1 << number for number in range(self.num_classes)], tf.float32)
        return tf.cast(tf.reduce_sum(tf.cast(found, tf.float32) * bits, -1), tf.uint16)
