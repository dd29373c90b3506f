"""What all formats are made of: a function from stored pixel values to probabilities, and words about it."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow import keras

from inference.predictor import Predictor
from inference.run import TrainedModel


def check_exportable(trained: TrainedModel, run: str) -> None:
    """Raises ValueError unless the run segments images of a known size."""
    if trained.task != "segment":
        raise ValueError(f"{run}: expected a run that segments, found one of --task {trained.task}")
    if trained.tile is None and trained.size is None:
        raise ValueError(f"{run}: expected a run on images of one size, or on crops, found images of several sizes")


def input_size(trained: TrainedModel) -> tuple[int, int]:
    """Returns (height, width) of the images, or of the tiles, in which the run predicts."""
    return trained.size if trained.tile is None else (trained.tile, trained.tile)


def probabilities_function(
    trained: TrainedModel, model: keras.Model, height: int | None, width: int | None, dtype: str
) -> tf.types.experimental.GenericFunction:
    """Returns a function from pixels [batch, height, width, channels] to {"probabilities": float32, as many outputs}.

    Args:
      trained: the run.
      model: its network, or one that computes the same.
      height, width: of the pixels; None: any that the network takes.
      dtype: of the pixels.
    """
    spec = tf.TensorSpec([None, height, width, trained.channels], dtype, name="pixels")

    @tf.function(input_signature=[spec])
    def predict(pixels):
        return {"probabilities": trained.labels.probabilities(model(pixels, training=False))}

    return predict


def replace_layers(model: keras.Model, replace: Callable[[keras.layers.Layer], keras.layers.Layer]) -> keras.Model:
    """Returns a copy of the model with its weights, in which `replace` has made the layers, each of the old one."""
    copy = keras.models.clone_model(model, clone_function=replace)
    copy.set_weights(model.get_weights())
    return copy


def describe(predictor: Predictor, kind: str, quantized: str | None) -> dict[str, Any]:
    """Returns what other programs need to know of an export, as JSON has it.

    Args:
      predictor: the run.
      kind: of file.
      quantized: how its numbers are kept, in words; None: as float32.
    """
    trained = predictor.trained
    height, width = input_size(trained)
    return {
        "made_by": "serving.export",
        "format": kind,
        "quantized": quantized,
        "model_sha256": trained.digest,
        "fingerprint": trained.fingerprint,
        "height": height,
        "width": width,
        "multiple": trained.multiple,
        "stretched_to": trained.size if trained.stretched else None,
        "channels": trained.channels,
        "dtype": trained.dtype,
        "intensity": trained.intensity,
        "classes": trained.classes,
        "overlapping": trained.overlapping,
        "outputs": _outputs(trained),
        "thresholds": predictor.thresholds,
        "steps_left_out": predictor.describe(),
    }


def _outputs(trained: TrainedModel) -> list[str]:
    """Returns the class of each output."""
    return trained.classes[1:] if trained.labels.outputs == 1 else list(trained.classes)
