"""Batches put together by hand predict what a pipeline's do."""

import numpy as np
import pytest
from tensorflow import keras

from inference.direct import DirectModel
from inference.gate import Gate
from inference.images import predict_images
from inference.run import TrainedModel
from tests.conftest import predictor_of


def model_of(**settings) -> TrainedModel:
    inputs = keras.Input([None, None, 3])
    logits = keras.layers.Rescaling(0.05, -6.0)(inputs[..., :1])
    known = {"classes": ["background", "blob"], "channels": 3, "dtype": "uint8", "fingerprint": "f"}
    return TrainedModel(keras.Model(inputs, logits), **known, **settings)


def bright() -> keras.Model:
    """A classifier: there is an object where the mean is above 100."""
    inputs = keras.Input([None, None, 3])
    mean = keras.layers.GlobalAveragePooling2D(keepdims=True)(keras.layers.Rescaling(1.0)(inputs[..., :1]))
    return keras.Model(inputs, keras.layers.Rescaling(1.0, -100.0)(mean))


@pytest.mark.parametrize("gate", [None, Gate(bright(), 0.5)], ids=["plain", "gate"])
@pytest.mark.parametrize("settings", [{"crop": 16}, {"size": (24, 40), "stretched": True}], ids=["tiles", "whole"])
def test_parts_in_any_batches_are_what_the_pipeline_predicts(gate, settings):
    predictor = predictor_of(model_of(**settings), gate=gate)
    generator = np.random.default_rng(0)
    blocks = [generator.integers(60, 160, (3, 5, 3)) for _ in range(2)]
    images = [np.kron(block, np.ones((8, 8, 1))).astype(np.uint8) for block in (*blocks, np.zeros((3, 5, 3)))]
    model = DirectModel(predictor, 4)
    wanted = list(predict_images(predictor, enumerate(images), 4))
    cleared = 0
    for image, (_, probabilities, nothing) in zip(images, wanted, strict=True):
        parts, count = model.cut(image)
        parts = list(parts)
        assert len(parts) == count
        found = [one for start in range(0, count, 3) for one in model.predict(parts[start : start + 3])]
        joined, empty = model.join(found, *image.shape[:2])
        np.testing.assert_array_equal(joined, probabilities)
        assert empty == nothing
        cleared += empty
    assert cleared >= (gate is not None)  # the black one at least


def test_a_model_of_images_of_any_size_has_no_batches():
    with pytest.raises(ValueError, match="expected a model of crops, or of whole images of one size"):
        DirectModel(predictor_of(model_of()), 4)


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"expected an image of the shape \[24, 40, 3\], found \[8, 8, 3\]"):
        DirectModel(predictor_of(model_of(size=(24, 40), stretched=True)), 4).cut(np.zeros((8, 8, 3), np.uint8))
