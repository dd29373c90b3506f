"""Images of several files in common batches: what each gives alone, few at a time, and errors that stay themselves."""

import weakref

import numpy as np
import pytest
from tensorflow import keras

from inference.gate import Gate
from inference.images import decide, predict_images
from inference.postprocess import Steps
from inference.run import TrainedModel
from tests.conftest import predictor_of


def mean_of_three(**settings) -> TrainedModel:
    """A model without weights of training: the mean of 3x3 pixels, so that neighbours matter."""
    inputs = keras.Input([None, None, 1])
    mean = keras.layers.Conv2D(1, 3, padding="same", use_bias=False)
    logits = keras.layers.Rescaling(0.05, -6.0)(mean(inputs))
    mean.set_weights([np.full((3, 3, 1, 1), 1 / 9, np.float32)])
    return TrainedModel(keras.Model(inputs, logits), ["background", "x"], 1, "uint8", "", **settings)


def noise(*shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 1), dtype=np.uint8)


MANY = [noise(*size, seed=seed) for seed, size in enumerate([(8, 8), (5, 30), (33, 9), (8, 16), (1, 1), (20, 21)])]


@pytest.mark.parametrize("settings", [{"crop": 8}, {"size": (8, 8)}])
def test_files_share_batches_and_give_what_each_gives_alone(settings):
    predictor = predictor_of(mean_of_three(**settings))
    alone = [next(predict_images(predictor, [(0, image)], 1))[1] for image in MANY]
    for batch_size in (3, 7):
        found = list(predict_images(predictor, enumerate(MANY), batch_size))
        assert [number for number, *_ in found] == list(range(len(MANY)))
        for number, probabilities, cleared in found:
            assert probabilities.shape == (*MANY[number].shape[:2], 1) and not cleared
            np.testing.assert_allclose(probabilities, alone[number], atol=1e-6)


def test_images_in_crops_are_predicted_as_the_predictor_does_one():
    predictor = predictor_of(mean_of_three(crop=8))
    for number, probabilities, _ in predict_images(predictor, enumerate(MANY), 4):
        np.testing.assert_allclose(probabilities, predictor.image_probabilities(MANY[number]), atol=1e-6)


@pytest.mark.parametrize("settings", [{"crop": 8}, {"size": (8, 8), "stretched": True}])
def test_few_images_are_held_at_a_time(settings):
    class Companion:
        pass

    alive = weakref.WeakSet()
    most = 0

    def images():
        for _ in range(80):
            companion = Companion()
            alive.add(companion)
            yield companion, MANY[0]
            del companion

    for companion, _, _ in predict_images(predictor_of(mean_of_three(**settings)), images(), 2):
        most = max(most, len(alive))
        del companion
    assert 2 <= most < 30


def test_an_error_of_the_images_comes_as_it_is_behind_those_before_it():
    def images():
        yield 1, MANY[0]
        raise OSError(5, "Input/output error")

    seen = []
    with pytest.raises(OSError, match="Input/output error"):
        for number, *_ in predict_images(predictor_of(mean_of_three(crop=8)), images(), 3):
            seen.append(number)
    assert seen == [1]
    assert list(predict_images(predictor_of(mean_of_three(crop=8)), [], 3)) == []


def test_a_gate_clears_an_image_when_it_clears_all_its_tiles():
    inputs = keras.Input([None, None, 1])
    brightest = keras.layers.GlobalMaxPooling2D(keepdims=True)(inputs)
    gate = Gate(keras.Model(inputs, keras.layers.Rescaling(1.0, -200.0)(brightest)), threshold=0.5)
    dark, half = np.full((8, 20, 1), 150, np.uint8), np.full((8, 20, 1), 150, np.uint8)
    half[:, 16:] = 250
    predictor = predictor_of(mean_of_three(crop=8), gate=gate)
    (_, first, cleared), (_, second, partly) = predict_images(predictor, [(0, dark), (1, half)], 3)
    assert (cleared, partly) == (True, False)
    assert first.max() == 0 and second[:, :8].max() == 0 and second[2:6, 14:18].min() > 0.5


def test_probabilities_are_stretched_and_steps_with_them():
    predictor = predictor_of(mean_of_three(size=(8, 8), stretched=True), postprocess={1: Steps(0.6, min_size=4)})
    probabilities = np.full((8, 8, 1), 0.2, np.float32)
    probabilities[:4] = 0.9
    found = decide(predictor, probabilities, 32, 24, True)
    assert found.postprocess == {1: Steps(0.6, min_size=4 * 32 * 24 // 64)} and found.cleared
    # Between the centres of rows 3 and 4, at 14 and 18, it falls from 0.9 to 0.2 and passes 0.6 at 15.7.
    np.testing.assert_array_equal(found.mask, np.repeat([1] * 16 + [0] * 16, 24).reshape(32, 24))
    assert found.probabilities.shape == (32, 24, 1)
