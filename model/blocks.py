"""The pieces of a network: convolutions, shortcuts, gates, upsampling.

Each takes `name`, the beginning of its layers' names. Names say where a layer is, whatever else was built before:
weights of another run are found by them.
"""

from collections.abc import Iterator

import tensorflow as tf
from tensorflow import keras

from model.config import ModelConfig
from model.layers import Enlarge, Repeat, StatelessDropout


def normalize(x, config: ModelConfig, name: str):
    """Returns the features, normalised as the settings say; of the same shape."""
    if config.norm == "none":
        return x
    if config.norm == "group":
        return keras.layers.GroupNormalization(count_groups(x.shape[-1]), name=name)(x)
    return keras.layers.BatchNormalization(
        momentum=config.norm_momentum, synchronized=config.norm == "sync_batch", name=name
    )(x)


def count_groups(filters: int) -> int:
    """Returns into how many groups of equal size group normalisation divides so many filters: at most 8."""
    return max(groups for groups in range(1, 9) if filters % groups == 0)


def activate(x, config: ModelConfig, name: str):
    """Returns the activated features, of the same shape."""
    if config.activation == "leaky_relu":
        return keras.layers.LeakyReLU(0.01, name=name)(x)
    return keras.layers.Activation(config.activation, name=name)(x)


def convolve(x, filters: int, config: ModelConfig, seeds: Iterator[int], name: str, size: int = 3, strides: int = 1):
    """Returns features convolved and normalised: [batch, height / strides, width / strides, filters]."""
    x = keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding="same",
        use_bias=config.norm == "none",  # normalisation has a bias of its own
        kernel_initializer=keras.initializers.HeNormal(next(seeds)),
        name=f"{name}_conv",
    )(x)
    return normalize(x, config, f"{name}_norm")


def double_convolution(x, filters: int, config: ModelConfig, seeds: Iterator[int], name: str):
    """Returns the U-Net's two 3x3 convolutions, each normalised and activated: [batch, height, width, filters]."""
    for part in ("1", "2"):
        x = activate(convolve(x, filters, config, seeds, f"{name}_{part}"), config, f"{name}_{part}_act")
    return x


def residual_block(x, filters: int, config: ModelConfig, seeds: Iterator[int], name: str, strides: int = 1):
    """Returns two 3x3 convolutions with a shortcut around them: [batch, height / strides, width / strides, filters].

    He et al. 2015 (arXiv:1512.03385): activated behind the sum. The shortcut is a 1x1 convolution where shapes differ.
    """
    shortcut = x
    if strides > 1 or x.shape[-1] != filters:
        shortcut = convolve(x, filters, config, seeds, f"{name}_shortcut", 1, strides)
    x = activate(convolve(x, filters, config, seeds, f"{name}_1", 3, strides), config, f"{name}_1_act")
    x = keras.layers.Add(name=f"{name}_add")([convolve(x, filters, config, seeds, f"{name}_2"), shortcut])
    return activate(x, config, f"{name}_2_act")


def level_block(x, filters: int, config: ModelConfig, seeds: Iterator[int], name: str):
    """Returns what a level of a plain or residual U-Net makes of its input: [batch, height, width, filters]."""
    block = residual_block if config.encoder == "residual" else double_convolution
    x = block(x, filters, config, seeds, name)
    if config.dropout:
        x = StatelessDropout(config.dropout, next(seeds), name=f"{name}_dropout")(x)
    return x


def level_output(config: ModelConfig, name: str) -> str:
    """Returns the name of the last layer of the level of this name."""
    return f"{name}_dropout" if config.dropout else f"{name}_2_act"


def upsample(x, filters: int, config: ModelConfig, seeds: Iterator[int], name: str):
    """Returns features of double height and width: [batch, 2 * height, 2 * width, filters]."""
    initializer = keras.initializers.HeNormal(next(seeds))
    if config.upsampling == "transpose":
        return keras.layers.Conv2DTranspose(filters, 2, 2, kernel_initializer=initializer, name=f"{name}_conv")(x)
    # Convolving before repeating gives the same as a 1x1 convolution behind it, for a quarter of the work.
    x = keras.layers.Conv2D(filters, 1, kernel_initializer=initializer, name=f"{name}_conv")(x)
    return Repeat(name=f"{name}_repeat")(x)


def attention_gate(skip, gating, seeds: Iterator[int], name: str):
    """Returns the skip, each pixel scaled by 0 to 1: by how much skip and gating together say that it matters.

    Oktay et al. 2018 (arXiv:1804.03999): sigmoid(psi . relu(W_x skip + W_g gating + b) + b_psi), computed at the
    gating's size and enlarged bilinearly.

    Args:
      skip: [batch, 2 * height, 2 * width, filters].
      gating: [batch, height, width, any], of the level below.
      seeds: of initial weights.
      name: of the layers.
    """

    def convolution(filters: int, size: int, part: str, use_bias: bool = True):
        initializer = keras.initializers.GlorotUniform(next(seeds))
        return keras.layers.Conv2D(
            filters, size, size, use_bias=use_bias, kernel_initializer=initializer, name=f"{name}_{part}"
        )

    filters = max(skip.shape[-1] // 2, 1)
    of_skip = convolution(filters, 2, "skip", use_bias=False)(skip)
    of_gating = convolution(filters, 1, "gating")(gating)
    x = keras.layers.Activation("relu", name=f"{name}_relu")(keras.layers.Add(name=f"{name}_add")([of_skip, of_gating]))
    weights = keras.layers.Activation("sigmoid", name=f"{name}_sigmoid")(convolution(1, 1, "psi")(x))
    return keras.layers.Multiply(name=f"{name}_scale")([skip, Enlarge(2, name=f"{name}_enlarge")(weights)])


def check_norm(config: ModelConfig, strategy: tf.distribute.Strategy) -> None:
    """Raises ValueError where batch normalisation is to be synchronised over several devices that are no GPUs."""
    if config.norm != "sync_batch" or strategy.num_replicas_in_sync == 1:
        return
    devices = strategy.extended.worker_devices
    if not all("GPU" in name for name in devices):
        raise ValueError(
            "model.norm: expected GPUs for sync_batch, which TensorFlow 2.15 has for them only, "
            f"found {', '.join(devices)}; choose batch or group"
        )
