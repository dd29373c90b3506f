"""TensorFlow Lite, for phones and small computers: from pixels to probabilities."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow import keras

from inference.run import TrainedModel
from model.layers import Repeat
from serving.formats.graph import input_size, probabilities_function, replace_layers

FILE = "model.tflite"

QUANTIZED = "weights in 8 bits, what goes into convolutions scaled anew for every image (dynamic range quantization)"

_UNKNOWN = re.compile(r"TF Select ops: (.+)|'(tf\.\w+)' op is neither|Custom ops: (.+)")


def write_tflite(trained: TrainedModel, folder: Path, quantize: bool) -> None:
    """Writes FILE: "pixels" float32 [batch, height, width, channels] of stored values -> "probabilities" float32.

    Any batch, after `resize_tensor_input`; height and width are those of `input_size`. The pixels are float32, because
    the interpreter takes no uint16.

    Args:
      trained: the run.
      folder: that exists.
      quantize: see QUANTIZED.

    Raises:
      ValueError: the network has an operation that TensorFlow Lite has not.
    """
    model = replace_layers(trained.model, _without_six_axes)
    predict = probabilities_function(trained, model, *input_size(trained), "float32")
    converter = tf.lite.TFLiteConverter.from_concrete_functions([predict.get_concrete_function()], model)
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    try:
        with _silence():
            converted = converter.convert()
    except Exception as error:  # its ConverterError has no public name
        if type(error).__name__ != "ConverterError":
            raise
        found = _UNKNOWN.search(str(error))
        reason = next(filter(None, found.groups())) if found else str(error).strip().splitlines()[0]
        raise ValueError(f"tflite: the network has an operation that TensorFlow Lite has not: {reason}") from error
    (folder / FILE).write_bytes(converted)


def load_tflite(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what gives probabilities of pixels, by TensorFlow Lite's interpreter on all CPUs."""
    interpreter = tf.lite.Interpreter(str(folder / FILE), num_threads=len(os.sched_getaffinity(0)))
    (pixels,), (probabilities,) = interpreter.get_input_details(), interpreter.get_output_details()
    shape = None

    def run(images):
        nonlocal shape
        if images.shape != shape:
            interpreter.resize_tensor_input(pixels["index"], images.shape)
            with _silence():
                interpreter.allocate_tensors()
            shape = images.shape
        interpreter.set_tensor(pixels["index"], images.astype(np.float32))
        interpreter.invoke()
        return interpreter.get_tensor(probabilities["index"])

    return run


def _without_six_axes(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Returns a layer that does the same with tensors of at most five axes, which is what TensorFlow Lite slices."""
    if isinstance(layer, Repeat):
        return keras.layers.UpSampling2D(2, name=layer.name)
    return type(layer).from_config(layer.get_config())


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps from the terminal what TensorFlow Lite writes past Python: pages on its own steps."""
    sys.stderr.flush()
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)
