"""The U-Net (Ronneberger et al. 2015, arXiv:1505.04597), with padding, so the output is as large as the input."""

import itertools
from collections.abc import Iterator, Sequence

from tensorflow import keras

from model.blocks import attention_gate, level_block, level_output, upsample
from model.config import ModelConfig
from model.encoders import encode
from model.inputs import prepare_images
from model.labels import Labels
from model.layers import Enlarge


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
    model. Its output is float32 logits [batch, height, width, outputs]; see `Labels`. Weights are random, whatever
    config.weights says: see `load_weights`.

    Args:
      config: shape of the network.
      channels: of the images.
      labels: the classes.
      mean, std: of the stored pixel values, per channel.
      seed: of initial weights, dropout and noise.
      stored_window: config.window as stored pixel values.

    Raises:
      ValueError: the encoder wants images of other channels.
    """
    seeds = itertools.count(seed * 1000)  # one for every layer that needs one
    images = keras.Input([None, None, channels], name="image")
    x = prepare_images(images, config, mean, std, seeds, stored_window)
    features = encode(x, config, seeds, windowed=stored_window is not None)
    decode = _decode_nested if config.decoder == "unetpp" else _decode
    return keras.Model(images, _logits(decode(features, config, seeds), config, labels, next(seeds)), name="unet")


def supervised_model(model: keras.Model, config: ModelConfig, labels: Labels, seed: int) -> keras.Model:
    """Returns a model from images to [logits, others...] for training, which shares the layers of the model.

    U-Net: the others are of the decoder's lower levels, at 1/2, 1/4, ... of the size at which the network works (which
    is input_scaling times smaller than the images). U-Net++ (Zhou et al. 2018, arXiv:1807.10165): they are of the top
    row's nodes, from the last to the first, of the images' size. All are float32 [batch, height, width, outputs]. They
    have weights of their own, which the model has not. Without deep supervision, returns the model itself.

    Args:
      model: of `build_unet`, with the same settings and labels.
      config: settings.
      labels: the classes.
      seed: of the others' initial weights.
    """
    if not config.deep_supervision:
        return model
    nested = config.decoder == "unetpp"
    seeds = itertools.count(seed * 1000 + 900)
    outputs, present = [model.output], {layer.name for layer in model.layers}
    for number in reversed(range(1, config.depth)) if nested else range(1, config.depth):
        name = f"node_0_{number}" if nested else f"decoder_{number}"
        if level_output(config, name) not in present:
            continue  # an encoder without this level
        x = model.get_layer(level_output(config, name)).output
        head = f"logits_{number}"
        outputs.append(_logits(x, config, labels, next(seeds), head) if nested else _head(x, labels, next(seeds), head))
    return keras.Model(model.input, outputs, name="supervised_unet")


def _decode(features: list, config: ModelConfig, seeds: Iterator[int]):
    x = features[-1]
    for level in reversed(range(config.depth)):
        skips = [] if features[level] is None else [features[level]]
        x = _join(skips, x, level, config, seeds, f"decoder_{level}")
    return x


def _decode_nested(features: list, config: ModelConfig, seeds: Iterator[int]):
    """U-Net++: node (i, j) sees all nodes (i, 0) to (i, j - 1), and (i + 1, j - 1) enlarged. (i, 0) is the encoder's.

    Where the encoder has no features of a size, that row begins with its second node.
    """
    rows = [[] if x is None else [x] for x in features]
    for column in range(1, config.depth + 1):
        last = [row[-1] if row else None for row in rows]
        for level in range(config.depth + 1 - column):
            if last[level + 1] is not None:
                name = f"node_{level}_{column}"
                rows[level].append(_join(rows[level], last[level + 1], level, config, seeds, name))
    return rows[0][-1]


def _join(skips: list, below, level: int, config: ModelConfig, seeds: Iterator[int], name: str):
    """Returns a level's features, made of its skips and of what is below: [batch, height, width, width of the level].

    Gates are on the first skip: the encoder's, where it has one at this level.
    """
    width = config.widths[level]
    if config.attention and skips:
        skips = [attention_gate(skips[0], below, seeds, f"{name}_gate"), *skips[1:]]
    x = upsample(below, width, config, seeds, f"{name}_up")
    if skips:
        x = keras.layers.Concatenate(name=f"{name}_join")([*skips, x])
    return level_block(x, width, config, seeds, name)


def _logits(x, config: ModelConfig, labels: Labels, seed: int, name: str = "logits"):
    """Returns float32 logits of the images' size."""
    if config.input_scaling == 1:
        return _head(x, labels, seed, name)
    x = _head(x, labels, seed, f"{name}_small")
    return Enlarge(config.input_scaling, dtype="float32", name=name)(x)


def _head(x, labels: Labels, seed: int, name: str):
    """Returns float32 logits of the features' size [batch, height, width, outputs]."""
    initializer = keras.initializers.GlorotUniform(seed)
    # float32 whatever the precision policy: losses and probabilities need it.
    return keras.layers.Conv2D(labels.outputs, 1, kernel_initializer=initializer, dtype="float32", name=name)(x)
