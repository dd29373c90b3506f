"""Stored pixels to what an encoder sees. Part of every model, so that all who use it feed it stored pixels."""

from collections.abc import Iterator, Sequence

from tensorflow import keras

from model.config import ModelConfig
from model.layers import StandardizeImage, StatelessNoise, Window


def prepare_images(
    images,
    config: ModelConfig,
    mean: Sequence[float],
    std: Sequence[float],
    seeds: Iterator[int],
    stored_window: tuple[float, float] | None,
):
    """Returns float32 pixels, normalised, `input_scaling` times smaller, in training with noise.

    Args:
      images: [batch, height, width, channels] of stored pixel values.
      config: settings.
      mean, std: of the stored pixel values, per channel.
      seeds: of the noise.
      stored_window: config.window as stored pixel values.
    """
    x = _normalize(images, config, mean, std, stored_window)
    if config.input_scaling > 1:
        x = keras.layers.AveragePooling2D(config.input_scaling, dtype="float32", name="shrink")(x)
    if config.noise:
        x = StatelessNoise(config.noise, next(seeds), dtype="float32", name="noise")(x)
    return x


def _normalize(images, config: ModelConfig, mean, std, stored_window: tuple[float, float] | None):
    """Returns float32 pixels, of the same shape: see ModelConfig.input_norm."""
    x = images
    if stored_window is not None:
        x = Window(*stored_window, dtype="float32", name="window")(x)
    if config.input_norm == "image":
        return StandardizeImage(dtype="float32", name="standardize")(x)
    if stored_window is None:
        variance = [value**2 for value in std]
        x = keras.layers.Normalization(mean=list(mean), variance=variance, dtype="float32", name="normalize")(x)
    return x
