"""Probabilities averaged over the symmetries of an image, and over several trained models.

Test-time augmentation: a network should answer alike however an image is turned or mirrored, but does so only nearly.
The mean of its eight answers, each turned back, is what all of them agree on; so is that of several networks
(both e.g. in Isensee et al. 2021, nnU-Net).
"""

import itertools
from collections.abc import Callable, Sequence

import tensorflow as tf

SYMMETRIES = tuple(itertools.product((False, True), range(4)))
"""Of a square, each as (whether it is mirrored left-right, quarter turns behind that)."""


def turn(images: tf.Tensor, mirrored: bool, turns: int) -> tf.Tensor:
    """Returns images [batch, height, width, channels] mirrored, then turned counterclockwise by quarters."""
    return tf.image.rot90(images[:, :, ::-1] if mirrored else images, turns)


def turn_back(images: tf.Tensor, mirrored: bool, turns: int) -> tf.Tensor:
    """Returns what `turn` made these images of."""
    images = tf.image.rot90(images, -turns % 4)
    return images[:, :, ::-1] if mirrored else images


def mean_probabilities(
    predictors: Sequence[Callable[[tf.Tensor], tf.Tensor]], images: tf.Tensor, tta: bool
) -> tf.Tensor:
    """Returns the mean of the probabilities that all predictors give for all symmetries of images.

    Args:
      predictors: each from images [batch, height, width, channels] to probabilities, float32 [batch, height, width,
        outputs].
      images: such images.
      tta: whether over all symmetries, or of the images as they are.
    """
    total, symmetries = 0.0, SYMMETRIES if tta else SYMMETRIES[:1]
    for mirrored, turns in symmetries:
        turned = turn(images, mirrored, turns)
        for predict in predictors:
            total += turn_back(predict(turned), mirrored, turns)
    return total / (len(symmetries) * len(predictors))
