"""The only module that imports TensorFlow Addons, so that it can be removed in one edit.

Addons 0.23.0 is its last release; it was built for TensorFlow 2.15.
"""

import re
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


def make_lamb(
    weight_decay: float, variables: list[tf.Variable], undecayed: list[tf.Variable]
) -> tf.keras.optimizers.legacy.Optimizer:
    """Returns LAMB (You et al. 2020, arXiv:1904.00962) with all its variables, for a checkpoint to be restored.

    Args:
      weight_decay: times the learning rate, within the part that is scaled layer by layer.
      variables: what it will change.
      undecayed: of these, the ones without weight decay, which are not scaled by their norms either.
    """
    # It asks names; on the second replica these end in "/replica_1:0".
    names = [f"^{re.escape(variable.name.removesuffix(':0'))}(/replica_|:)" for variable in undecayed]
    optimizer = tfa.optimizers.LAMB(0.0, weight_decay=weight_decay, exclude_from_weight_decay=names)
    optimizer._create_all_weights(variables)  # Keras' old optimizers have no public way to do so before the first step
    return optimizer


def sigmoid_focal(targets: tf.Tensor, logits: tf.Tensor, alpha: float | None, gamma: float) -> tf.Tensor:
    """Returns the focal loss of each sigmoid output, float32 of the logits' shape.

    Args:
      targets: float32 [...], 0 or 1.
      logits: float32 [...].
      alpha: between 0 and 1, the weight where targets are 1, 1 - alpha where they are 0; None for 1.
      gamma: at least 1.
    """
    # Addons sums over the last axis.
    return tfa.losses.sigmoid_focal_crossentropy(
        targets[..., None], logits[..., None], alpha=alpha, gamma=gamma, from_logits=True
    )
