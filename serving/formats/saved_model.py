"""TensorFlow's SavedModel, as TensorFlow Serving takes it: image files or pixels to probabilities and masks.

Its masks come of the thresholds alone: the steps that clean them (`inference.postprocess`) are no operations of
TensorFlow.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from inference.predictor import Predictor
from serving.formats.decoding import decode_files, pad_images
from serving.formats.graph import probabilities_function


def write_saved_model(predictor: Predictor, folder: Path) -> None:
    """Writes a SavedModel with two signatures, both with "probabilities" and "mask" for answers.

    "probabilities": float32 [batch, height, width, outputs]; "mask": [batch, height, width], uint8 class indices or,
    where classes overlap, uint16 bit fields.

    - "serving_default" takes "image": string [batch], PNG or JPEG.
    - "pixels" takes "pixels": [batch, height, width, channels] of the records' dtype.

    Models of whole images want pixels of the records' size; all others take any that is a multiple of
    `trained.multiple`, and see an image at once, not in overlapping tiles. Image files have any size; where the records
    were not stretched to one, all of a batch the same.

    Raises:
      ValueError: the model wants images with another contrast, which no operation of TensorFlow gives.
    """
    trained = predictor.trained
    transform = trained.intensity["transform"] if trained.intensity else "none"
    if transform != "none":
        raise ValueError(
            f"saved_model: expected a run on records of --intensity none, found {transform}, which TensorFlow cannot "
            "do to image files; export onnx or tflite, which take pixels"
        )
    height, width = trained.size if trained.tile is None else (None, None)
    predict = probabilities_function(trained, trained.model, height, width, trained.dtype)

    def answer(probabilities):
        return {"probabilities": probabilities, "mask": trained.labels.classify(probabilities, predictor.thresholds)}

    @tf.function(input_signature=predict.input_signature)
    def from_pixels(pixels):
        return answer(predict(pixels)["probabilities"])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image")])
    def from_files(image):
        stretched_to = trained.size if trained.stretched else (None, None)
        pixels = decode_files(image, *stretched_to, trained.channels, trained.dtype)
        if trained.tile is None:
            return from_pixels(pixels)
        rows, columns = tf.shape(pixels)[1], tf.shape(pixels)[2]
        # Beyond the image is what training saw there: 0 around crops, around tiles of preprocess the darkest value.
        padded = pad_images(pixels, trained.multiple, darkest=trained.crop is None)
        return answer(predict(padded)["probabilities"][:, :rows, :columns])

    module = tf.Module()
    # Not the Keras model, which would bring functions of its own for every layer.
    module.weights = list(trained.model.variables)
    signatures = {"serving_default": from_files, "pixels": from_pixels}
    tf.saved_model.save(module, str(folder), signatures)


def load_saved_model(
    folder: Path,
) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[Sequence[bytes]], np.ndarray]]:
    """Returns what gives probabilities of pixels, and of image files."""
    loaded = tf.saved_model.load(str(folder))
    pixels, files = loaded.signatures["pixels"], loaded.signatures["serving_default"]

    def keep_alive(function, **inputs):
        # The signatures do not keep the weights of what was loaded.
        assert loaded is not None
        return function(**inputs)["probabilities"].numpy()

    return (
        lambda images: keep_alive(pixels, pixels=tf.constant(images)),
        lambda images: keep_alive(files, image=tf.constant(list(images))),
    )
