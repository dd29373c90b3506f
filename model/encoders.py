"""Encoders: images to features at full size, half, a quarter and so on, as one Keras model named "encoder".

As a model of its own it can be frozen, filled with weights and used for other tasks. Those of keras.applications are
built here without their random layers: Keras' dropout does not resume as an uninterrupted run would go on.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from tensorflow import keras

from model.blocks import activate, convolve, level_block, residual_block
from model.config import ModelConfig
from model.layers import ChannelScale

ENCODER = "encoder"
"""Name of the encoder's layer in a model."""

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green and blue, as shares of 255


class _Application(NamedTuple):
    """What is special about a network of keras.applications.

    name: of its function. taps: layers whose inputs are the features, from the largest; the last are its output.
    signed: it was trained on pixels from -1 to 1, else on pixels of ImageNet's mean 0 and deviation 1.
    """

    name: str
    taps: tuple[str, ...]
    signed: bool


_EFFICIENTNET = tuple(f"block{block}a_expand_conv" for block in (2, 3, 4, 6))

_APPLICATIONS = {
    "resnet50v2": _Application(
        "ResNet50V2", ("pool1_pad", "conv2_block3_1_conv", "conv3_block4_1_conv", "conv4_block6_1_conv"), signed=True
    ),
    **{f"efficientnetv2b{k}": _Application(f"EfficientNetV2B{k}", _EFFICIENTNET, signed=False) for k in range(4)},
    **{f"efficientnetv2{k.lower()}": _Application(f"EfficientNetV2{k}", _EFFICIENTNET, signed=True) for k in "SM"},
    "mobilenetv3small": _Application(
        "MobileNetV3Small",
        (
            "expanded_conv/depthwise/pad",
            "expanded_conv_1/expand",
            "expanded_conv_3/expand",
            "expanded_conv_8/expand",
        ),
        signed=True,
    ),
    "mobilenetv3large": _Application(
        "MobileNetV3Large", tuple(f"expanded_conv_{block}/expand" for block in (1, 3, 6, 12)), signed=True
    ),
    "convnexttiny": _Application(  # its first step is a quarter: nothing at half size
        "ConvNeXtTiny", tuple(f"convnext_tiny_downsampling_block_{block}" for block in range(3)), signed=False
    ),
}


def encode(images, config: ModelConfig, seeds: Iterator[int], windowed: bool) -> list:
    """Returns features of depth + 1 levels: level k is 2**k times smaller than the images, or None where there is none.

    Args:
      images: float32 [batch, height, width, channels], normalised.
      config: settings.
      seeds: of initial weights and dropout.
      windowed: pixels are from -1 to 1; else each image or the dataset has mean 0 and deviation 1.

    Raises:
      ValueError: an encoder of keras.applications is to see images that have neither 1 nor 3 channels.
    """
    if config.is_application:
        images = _as_imagenet(images, config, windowed)
    inputs = keras.Input([None, None, images.shape[-1]], name="encoder_input")
    if config.is_application:
        encoder = _application(config, seeds)
    else:
        features = _resnet34(inputs, config, seeds) if config.encoder == "resnet34" else _levels(inputs, config, seeds)
        encoder = keras.Model(inputs, features, name=ENCODER)
    features = encoder(images)
    return [None] * (config.depth + 1 - len(features)) + features


def set_encoder_trainable(model: keras.Model, trainable: bool) -> None:
    """Lets training change the encoder, or freezes it: its batch normalisation then works as in prediction.

    Compiled training steps do not notice: they are to be made anew, from the variables that are trainable now.
    """
    model.get_layer(ENCODER).trainable = trainable


def keras_application(config: ModelConfig, weights: str | None) -> keras.Model:
    """Returns the network of keras.applications from images to the list of features, as Keras makes it.

    Args:
      config: settings.
      weights: None, "imagenet" (may download) or the path of a file that Keras made of the network without its head.
    """
    application = _APPLICATIONS[config.encoder]
    settings = {} if application.name.startswith("ResNet") else {"include_preprocessing": False}
    images = keras.Input([None, None, 3], name="encoder_input")
    network = getattr(keras.applications, application.name)(
        include_top=False, weights=weights, input_tensor=images, **settings
    )
    # Not layer.input: that of a Sequential is its own, outside of the network.
    features = [network.get_layer(name).inbound_nodes[-1].keras_inputs[0] for name in application.taps]
    return keras.Model(network.input, [*features, network.output], name=ENCODER)


def _as_imagenet(images, config: ModelConfig, windowed: bool):
    """Returns images [batch, height, width, 3] in the scale that the encoder's published weights were trained on.

    Pixels of mean 0 and deviation 1 get the mean and deviation that ImageNet's have in that scale. Pixels of a window
    are taken as 8-bit ones are: -1 as 0, 1 as 255.
    """
    channels = images.shape[-1]
    if channels not in (1, 3):
        raise ValueError(
            f"model.encoder: expected images of 1 or 3 channels for {config.encoder}, found {channels}; "
            "choose plain, residual or resnet34"
        )
    if channels == 1:
        images = keras.layers.Concatenate(name="rgb")([images] * 3)
    # ImageNet's mean and deviation in pixels from -1 to 1
    mean, std = [2 * value - 1 for value in _MEAN], [2 * value for value in _STD]
    windowed = windowed and config.input_norm == "dataset"
    signed = _APPLICATIONS[config.encoder].signed
    if windowed == signed:
        return images
    if windowed:
        shift, scale = mean, std
    else:  # the way back: x * std + mean
        shift, scale = [-m / s for m, s in zip(mean, std, strict=True)], [1 / s for s in std]
    variance = [value**2 for value in scale]
    return keras.layers.Normalization(mean=shift, variance=variance, dtype="float32", name="imagenet_scale")(images)


def _levels(x, config: ModelConfig, seeds: Iterator[int]) -> list:
    features = []
    for level, width in enumerate(config.widths):
        if level:
            x = keras.layers.MaxPooling2D(name=f"encoder_{level}_pool")(x)
        x = level_block(x, width, config, seeds, f"encoder_{level}")
        features.append(x)
    return features


def _resnet34(x, config: ModelConfig, seeds: Iterator[int]) -> list:
    """Returns the features of ResNet-34 (He et al. 2015, arXiv:1512.03385) at a half to a 32nd of the size."""
    x = activate(convolve(x, 64, config, seeds, "stem", 7, 2), config, "stem_act")
    features = [x]
    x = keras.layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    for stage, (filters, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], 1):
        for block in range(blocks):
            strides = 2 if stage > 1 and block == 0 else 1
            x = residual_block(x, filters, config, seeds, f"stage_{stage}_block_{block}", strides)
        features.append(x)
    return features


def _application(config: ModelConfig, seeds: Iterator[int]) -> keras.Model:
    """Returns the network from images to features with seeds in its initializers and without random layers."""
    counts = Counter()

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        settings = layer.get_config()
        settings["name"] = _stable_name(layer, counts)
        if isinstance(layer, keras.Sequential):
            return keras.models.clone_model(layer, clone_function=copy)
        if type(layer).__name__ in ("Dropout", "StochasticDepth"):
            return keras.layers.Activation("linear", name=settings["name"])
        if type(layer).__name__ == "LayerScale":
            return ChannelScale(layer.init_values, name=settings["name"])
        if isinstance(layer, keras.layers.BatchNormalization):
            settings |= {"momentum": config.norm_momentum, "synchronized": config.norm == "sync_batch"}
        for name, value in settings.items():
            if name.endswith("_initializer") and value and "seed" in value["config"]:
                settings[name] = value | {"config": value["config"] | {"seed": next(seeds)}}
        return type(layer).from_config(settings)

    return keras.models.clone_model(keras_application(config, None), clone_function=copy)


def _stable_name(layer: keras.layers.Layer, counts: Counter) -> str:
    """Returns the layer's name; where Keras numbered it through the whole process, with its number in the network."""
    prefix = re.sub(r"_\d+$", "", layer.name)
    if not layer.name.startswith("tf.") and prefix.replace("_", "") != type(layer).__name__.lower():
        return layer.name
    counts[prefix] += 1
    return f"{prefix}_{counts[prefix]}"
