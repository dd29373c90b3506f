"""The U-Net (Ronneberger et al. 2015, arXiv:1505.04597), with padding, so the output is as large as the input."""

from collections.abc import Sequence

from tensorflow import keras

from model.config import ModelConfig
from model.labels import Labels
from model.layers import Repeat, StandardizeImage, StatelessDropout, StatelessNoise, Window


def build_unet(
    config: ModelConfig,
    channels: int,
    labels: Labels,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
    stored_window: tuple[float, float] | None = None,
) -> keras.Model:
    """Returns a U-Net.

    Its input is [batch, height, width, channels] of stored pixel values, any dtype: normalisation is part of the
    model. Its output is float32 logits [batch, height, width, outputs]; see `Labels`.

    Args:
      config: shape of the network.
      channels: of the images.
      labels: the classes.
      mean, std: of the stored pixel values, per channel.
      seed: of initial weights, dropout and noise.
      stored_window: config.window as stored pixel values.
    """
    seeds = iter(range(seed * 1000, seed * 1000 + 1000))  # one for every layer that needs one
    images = keras.Input([None, None, channels], name="image")
    x = images
    if stored_window is not None:
        x = Window(*stored_window, dtype="float32", name="window")(x)
    if config.input_norm == "image":
        x = StandardizeImage(dtype="float32", name="standardize")(x)
    elif stored_window is None:
        variance = [value**2 for value in std]
        x = keras.layers.Normalization(mean=list(mean), variance=variance, dtype="float32", name="normalize")(x)
    if config.noise:
        x = StatelessNoise(config.noise, next(seeds), dtype="float32", name="noise")(x)

    def convolve(x, filters: int):
        for _ in range(2):
            x = keras.layers.Conv2D(
                filters,
                3,
                padding="same",
                use_bias=config.norm == "none",  # batch normalisation has a bias of its own
                kernel_initializer=keras.initializers.HeNormal(next(seeds)),
            )(x)
            if config.norm == "batch":
                x = keras.layers.BatchNormalization(momentum=config.norm_momentum)(x)
            x = keras.layers.ReLU()(x)
        return StatelessDropout(config.dropout, next(seeds))(x) if config.dropout else x

    skips = []
    for level in range(config.depth):
        x = convolve(x, config.filters * 2**level)
        skips.append(x)
        x = keras.layers.MaxPooling2D()(x)
    x = convolve(x, config.filters * 2**config.depth)
    for level in reversed(range(config.depth)):
        filters = config.filters * 2**level
        initializer = keras.initializers.HeNormal(next(seeds))
        if config.upsampling == "transpose":
            x = keras.layers.Conv2DTranspose(filters, 2, strides=2, kernel_initializer=initializer)(x)
        else:
            # Convolving before repeating gives the same as a 1x1 convolution behind it, for a quarter of the work.
            x = Repeat()(keras.layers.Conv2D(filters, 1, kernel_initializer=initializer)(x))
        x = convolve(keras.layers.Concatenate()([skips[level], x]), filters)
    # float32 whatever the precision policy: losses and probabilities need it.
    logits = keras.layers.Conv2D(
        labels.outputs,
        1,
        kernel_initializer=keras.initializers.GlorotUniform(next(seeds)),
        dtype="float32",
        name="logits",
    )(x)
    return keras.Model(images, logits, name="unet")
