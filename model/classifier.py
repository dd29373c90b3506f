"""A network that answers whether there is any object in an image: an encoder, its mean, one number.

Its answer is an image of one pixel, its truth a mask of one pixel: what trains and scores masks serves it too.
"""

import itertools
from collections.abc import Sequence

import tensorflow as tf
from tensorflow import keras

from model.config import ModelConfig
from model.encoders import encode
from model.inputs import prepare_images
from model.labels import IGNORE, Labels
from model.layers import StatelessDropout

CLASSIFIER_LABELS = Labels(2)
"""What a classifier's outputs mean: class 1 is "there is an object"."""


def build_classifier(
    config: ModelConfig,
    channels: int,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
    stored_window: tuple[float, float] | None = None,
) -> keras.Model:
    """Returns a model from images to float32 logits [batch, 1, 1, 1], see `CLASSIFIER_LABELS`.

    Images and arguments are those of `build_unet`, and so is the encoder, to the names of its layers: weights can be
    taken over in either direction.

    Raises:
      ValueError: the encoder wants images of other channels.
    """
    seeds = itertools.count(seed * 1000)  # one for every layer that needs one
    images = keras.Input([None, None, channels], name="image")
    x = prepare_images(images, config, mean, std, seeds, stored_window)
    x = encode(x, config, seeds, windowed=stored_window is not None)[-1]
    # float32 whatever the precision policy: a float16 sum over a large image overflows.
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, dtype="float32", name="mean")(x)
    if config.dropout:
        x = StatelessDropout(config.dropout, next(seeds), dtype="float32", name="mean_dropout")(x)
    initializer = keras.initializers.GlorotUniform(next(seeds))
    answer = keras.layers.Dense(1, kernel_initializer=initializer, dtype="float32", name="answer")(x)
    return keras.Model(images, answer, name="classifier")


def has_object(labels: Labels, masks: tf.Tensor, classes: Sequence[int]) -> tf.Tensor:
    """Returns the true answers, uint8 [batch, 1, 1]: 1 where any known pixel belongs to one of the classes, else 0.

    Where no pixel of a mask is known, nor is the answer: 255.

    Args:
      labels: what masks mean.
      masks: uint8 class indices or uint16 bit fields [batch, height, width].
      classes: those that count as objects.
    """
    known = labels.valid(masks)
    held = tf.reduce_any([labels.holds(masks, number) for number in classes], 0) & known
    answers = tf.cast(tf.reduce_any(held, [1, 2], keepdims=True), tf.uint8)
    return tf.where(tf.reduce_any(known, [1, 2], keepdims=True), answers, tf.constant(IGNORE, tf.uint8))
