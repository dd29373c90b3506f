"""The only module that imports TensorFlow Addons, so that it can be removed in one edit.

Addons 0.23.0 is its last release; it was built for TensorFlow 2.15.
"""

import warnings

import tensorflow as tf

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its end of life
    import tensorflow_addons as tfa


def transform(images: tf.Tensor, transforms: tf.Tensor, interpolation: str, fill_value: float) -> tf.Tensor:
    """Returns images moved by projective transforms, float32 of the same shape.

    The kernel takes neither uint16 nor bfloat16 and cannot be compiled by XLA.

    Args:
      images: float32 [batch, height, width, channels].
      transforms: float32 [batch, 8]; output pixel (x, y) is taken from input
        ((a0 x + a1 y + a2) / k, (b0 x + b1 y + b2) / k), k = c0 x + c1 y + 1.
      interpolation: "bilinear" or "nearest".
      fill_value: for pixels from outside of the input.
    """
    return tfa.image.transform(images, transforms, interpolation, fill_mode="constant", fill_value=fill_value)
