"""Augmentation of a batch on the accelerator.

Randomness is a function of (seed, step) and of an example's place in the global batch, so it is the same for any
number of replicas and after any resume. Image and mask always move together.
"""

import math

import tensorflow as tf

from model.addons import transform
from model.config import AugmentConfig
from model.labels import ignore_value


def augment(
    images: tf.Tensor,
    masks: tf.Tensor,
    config: AugmentConfig,
    seed: int,
    step: tf.Tensor,
    first: tf.Tensor | int = 0,
    global_batch_size: int | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns augmented (images float32, masks of their dtype) of the same shapes.

    Outside of the frame masks are ignored. All values of a uint16 mask are exact in float32.

    Args:
      images: [batch, height, width, channels], any integer or float dtype.
      masks: uint8 class indices or uint16 bit fields [batch, height, width].
      config: what to do.
      seed: of the run.
      step: int64 [], the training step.
      first: index in the global batch of this batch's first example (a replica's share begins there).
      global_batch_size: number of examples on all replicas; None: this batch is all.
    """
    batch, height, width, _ = images.shape
    total = global_batch_size or batch

    def uniform(name: int, low: float, high: float) -> tf.Tensor:
        """Returns float32 [batch]; `name` tells the draws of one step apart."""
        seeds = tf.stack([tf.cast(seed, tf.int64) * 1024 + name, tf.cast(step, tf.int64)])
        return tf.random.stateless_uniform([total], seeds, low, high)[first : first + batch]

    images, mask_dtype = tf.cast(images, tf.float32), masks.dtype
    planes = tf.concat([images, tf.cast(masks, tf.float32)[..., None]], -1)
    if config.horizontal_flip:
        planes = _where(uniform(0, 0, 1) < 0.5, tf.reverse(planes, [2]), planes)
    if config.vertical_flip:
        planes = _where(uniform(1, 0, 1) < 0.5, tf.reverse(planes, [1]), planes)
    if config.quarter_turns and height == width:
        turns = tf.cast(uniform(2, 0, 4), tf.int32)
        planes = _where(turns % 2 == 1, tf.reverse(tf.transpose(planes, [0, 2, 1, 3]), [1]), planes)
        planes = _where(turns >= 2, tf.reverse(planes, [1, 2]), planes)
    images, masks = planes[..., :-1], planes[..., -1:]
    mean = tf.reduce_mean(images, [1, 2], keepdims=True)
    images -= mean  # so that what comes into the frame from outside is neither bright nor dark
    if config.affine:
        bound = math.radians(config.rotation)
        scale = math.log1p(config.scale)
        matrices = _affine(
            angle=uniform(3, -bound, bound),
            scale=tf.exp(uniform(4, -scale, scale)),
            shift_x=uniform(5, -config.shift, config.shift) * width,
            shift_y=uniform(6, -config.shift, config.shift) * height,
            height=height,
            width=width,
        )
        identity = tf.constant([1.0, 0, 0, 0, 1, 0, 0, 0])
        matrices = tf.where((uniform(7, 0, 1) < config.affine)[:, None], matrices, identity)
        images = transform(images, matrices, "bilinear", 0.0)
        masks = transform(masks, matrices, "nearest", float(ignore_value(mask_dtype)))
    if config.contrast or config.brightness:
        contrast = math.log1p(config.contrast)
        factor = tf.exp(uniform(8, -contrast, contrast))[:, None, None, None]
        spread = tf.reduce_max(images, [1, 2, 3], keepdims=True) - tf.reduce_min(images, [1, 2, 3], keepdims=True)
        offset = uniform(9, -config.brightness, config.brightness)[:, None, None, None] * spread
        images = images * factor + offset
    return images + mean, tf.cast(masks[..., 0], mask_dtype)


def _where(condition: tf.Tensor, yes: tf.Tensor, no: tf.Tensor) -> tf.Tensor:
    return tf.where(condition[:, None, None, None], yes, no)


def _affine(angle, scale, shift_x, shift_y, height: int, width: int) -> tf.Tensor:
    """Returns transforms [batch, 8] from output to input pixels: about the centre, rotate, divide by scale, shift."""
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    offset_x = centre_x - cos * centre_x + sin * centre_y + shift_x
    offset_y = centre_y - sin * centre_x - cos * centre_y + shift_y
    zero = tf.zeros_like(cos)
    return tf.stack([cos, -sin, offset_x, sin, cos, offset_y, zero, zero], 1)
