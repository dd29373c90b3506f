"""What a predictor makes of probabilities: thresholds, tiles that agree, tiles that a gate has cleared."""

import numpy as np
import pytest
from tensorflow import keras

from inference.gate import Gate
from inference.postprocess import Steps
from inference.run import TrainedModel
from tests.conftest import predictor_of


def model_of(layer, classes, crop=None, overlapping=False) -> TrainedModel:
    inputs = keras.Input([None, None, 1])
    return TrainedModel(keras.Model(inputs, layer(inputs)), classes, 1, "uint8", "", crop=crop, overlapping=overlapping)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.8])
def test_a_constant_logit_gives_a_seamless_map_for_every_threshold(overlap):
    trained = model_of(keras.layers.Rescaling(0.0, 0.4), ["background", "cell"], crop=16)
    image = np.random.default_rng(0).integers(0, 255, (45, 70, 1)).astype(np.uint8)
    probabilities = predictor_of(trained, overlap=overlap).image_probabilities(image)
    exact = float(probabilities[0, 0, 0])
    assert exact == pytest.approx(1 / (1 + np.exp(-0.4)))
    np.testing.assert_array_equal(probabilities, np.float32(exact))
    for threshold in (exact, np.nextafter(np.float32(exact), np.float32(1)), 0.3, 0.7):
        mask = predictor_of(trained, float(threshold), overlap=overlap).mask(image)
        assert mask.shape == (45, 70)
        np.testing.assert_array_equal(mask, int(exact >= threshold))


def test_a_constant_softmax_gives_one_class():
    def constant(inputs):
        return keras.layers.Concatenate()([keras.layers.Rescaling(0.0, value)(inputs) for value in (0.1, 0.3, 0.2)])

    trained = model_of(constant, ["background", "cell", "gap"], crop=16)
    image = np.zeros((40, 21, 1), np.uint8)
    assert (predictor_of(trained).mask(image) == 1).all()
    # 0.2 and 0.3 share what both have as 0.475 to 0.525: the rarer class needs a threshold below that.
    for threshold, number in ((0.46, 2), (0.49, 1)):
        assert (predictor_of(trained, postprocess={2: Steps(threshold)}).mask(image) == number).all()


def test_every_class_has_its_own_threshold():
    def ramp(inputs):
        return keras.layers.Concatenate()([keras.layers.Rescaling(0.1, -10.0)(inputs) for _ in range(3)])

    trained = model_of(ramp, ["a", "b", "c"], overlapping=True)
    thresholds = {0: 0.2, 1: 0.5, 2: 0.9}
    image = np.arange(50, 150, dtype=np.uint8).reshape(10, 10, 1)
    probabilities = 1 / (1 + np.exp(10 - 0.1 * image[..., 0].astype(np.float64)))
    postprocess = {number: Steps(threshold) for number, threshold in thresholds.items()}
    found = predictor_of(trained, postprocess=postprocess).mask(image)
    for number, threshold in thresholds.items():
        clear = np.abs(probabilities - threshold) > 1e-6
        np.testing.assert_array_equal((found >> number & 1)[clear], (probabilities >= threshold)[clear])


@pytest.mark.parametrize("crop", [None, 8])
def test_each_mask_is_cleaned_whole(crop):
    """A part that lies across tiles is as large as it is."""
    trained = model_of(keras.layers.Rescaling(1.0, -100.0), ["background", "cell"], crop=crop)
    image = np.zeros((24, 24, 1), np.uint8)
    image[2:4, 2:22] = 200
    image[20, 20] = 200
    found = predictor_of(trained, postprocess={1: Steps(min_size=30)}).mask(image)
    expected = np.zeros((24, 24))
    expected[2:4, 2:22] = 1
    np.testing.assert_array_equal(found, expected)


def test_a_tile_that_a_gate_cleared_counts_nowhere_that_another_has_seen():
    """Grey pixels are cells; the gate lets a tile pass only where it sees a white one."""
    trained = model_of(keras.layers.Rescaling(1.0, -100.0), ["background", "cell"], crop=16)
    inputs = keras.Input([None, None, 1])
    brightest = keras.layers.GlobalMaxPooling2D(keepdims=True)(inputs)
    gate = Gate(keras.Model(inputs, keras.layers.Rescaling(1.0, -200.0)(brightest)), 0.5)
    image = np.full((16, 40, 1), 150, np.uint8)
    image[0, 0] = 255  # in the first tile alone, which covers columns 0 to 15
    found = predictor_of(trained, gate=gate, overlap=0.5).mask(image)
    np.testing.assert_array_equal(found, np.arange(40) < 16 + np.zeros((16, 1)))
    np.testing.assert_array_equal(predictor_of(trained, overlap=0.5).mask(image), 1)
