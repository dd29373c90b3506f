"""Initial weights from elsewhere: ImageNet's, a file's, another run's."""

from collections.abc import Iterator

import tensorflow as tf
from tensorflow import keras

from model.config import ModelConfig
from model.encoders import ENCODER, keras_application
from model.layers import StatelessDropout, StatelessNoise


def load_weights(model: keras.Model, config: ModelConfig) -> str | None:
    """Replaces a new model's random weights by those that config.weights names; returns what it did, in words, or None.

    "imagenet" fills an encoder of keras.applications; Keras downloads the file once, to ~/.keras/models. The path of
    an .h5 file fills the encoder: of keras.applications, one that Keras published for the network without its head;
    of ours, one that `save_weights` of such an encoder wrote (`.weights.h5` likewise, for all encoders). The path of a
    .keras file fills all layers whose names and shapes are those of its layers.

    Raises:
      ValueError: there are no such weights, or they do not fit.
    """
    if config.weights == "none":
        return None
    encoder = model.get_layer(ENCODER)
    if config.weights == "imagenet":
        _copy_in_order(_imagenet(config), encoder)
        return f"encoder {config.encoder} begins with weights of ImageNet"
    if not tf.io.gfile.exists(config.weights):
        raise ValueError(f"model.weights: expected none, imagenet or the path of a file, found {config.weights}")
    if config.weights.endswith(".keras"):
        return _load_model(model, config)
    if not config.weights.endswith(".h5"):
        raise ValueError(f"model.weights: expected a file whose name ends in .h5 or .keras, found {config.weights}")
    try:
        if config.is_application and not config.weights.endswith(".weights.h5"):
            _copy_in_order(keras_application(config, config.weights), encoder)
        else:
            encoder.load_weights(config.weights)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{config.weights}: expected weights of encoder {config.encoder}, without its head, found other content "
            f"({str(error).splitlines()[0]})"
        ) from error
    return f"encoder {config.encoder} begins with the weights of {config.weights}"


def _imagenet(config: ModelConfig) -> keras.Model:
    try:
        return keras_application(config, "imagenet")
    except Exception as error:  # Keras raises nothing narrower where it cannot download
        raise ValueError(
            f"model.weights: expected to download the ImageNet weights of {config.encoder}, or to find them in "
            f"~/.keras/models, found neither ({str(error).splitlines()[0]}); download them where there is a network "
            "and give the file's path, or choose none"
        ) from error


def _copy_in_order(source: keras.Model, encoder: keras.Model) -> None:
    """Copies the weights of the network that the encoder was made from: it has the same layers, in the same order."""
    encoder.set_weights(source.get_weights())


def _load_model(model: keras.Model, config: ModelConfig) -> str:
    try:
        other = keras.models.load_model(config.weights, compile=False)
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"{config.weights}: expected a Keras model, found other content ({str(error).splitlines()[0]})"
        ) from error
    found = {name: layer.get_weights() for name, layer in _weighted_layers(other)}
    wanted = dict(_weighted_layers(model))
    copied = 0
    for name, layer in wanted.items():
        if name in found and [w.shape for w in layer.get_weights()] == [w.shape for w in found[name]]:
            layer.set_weights(found[name])
            copied += 1
    if not copied:
        raise ValueError(
            f"{config.weights}: expected layers of this network's names and shapes, found none; "
            "choose the settings of that run's config.json"
        )
    return f"{copied} of {len(wanted)} layers begin with the weights of {config.weights}"


def _weighted_layers(model: keras.Model) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Yields (name, layer) of all layers that have weights, those of the encoder too."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _weighted_layers(layer)
        # Counters of random layers are no weights: another run begins at its own beginning.
        elif layer.weights and not isinstance(layer, (StatelessDropout, StatelessNoise)):
            yield layer.name, layer
