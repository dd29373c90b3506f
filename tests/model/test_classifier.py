"""A network that answers whether there is any object, and the true answers."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from model.classifier import build_classifier, has_object
from model.config import ModelConfig
from model.encoders import ENCODER
from model.labels import IGNORE, IGNORE_BIT, Labels
from model.unet import build_unet
from model.weights import load_weights

SMALL = ModelConfig(depth=2, filters=4, dropout=0.2, norm="group")
MEAN, STD = [128.0] * 3, [70.0] * 3


def images_of(count: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, [count, size, size, 3]).astype(np.uint8)


def test_the_answer_is_the_weighted_mean_of_the_encoders_last_features():
    model = build_classifier(SMALL, 3, MEAN, STD, seed=1)
    images = images_of(3)
    found = model(images, training=False).numpy()
    assert found.shape == (3, 1, 1, 1)
    normalised = (images.astype(np.float32) - 128) / 70
    features = model.get_layer(ENCODER)(normalised, training=False)[-1].numpy()
    assert features.shape == (3, 4, 4, 16)
    kernel, bias = model.get_layer("answer").get_weights()
    np.testing.assert_allclose(found[:, 0, 0, 0], features.mean((1, 2)) @ kernel[:, 0] + bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_the_mean_is_float32_and_finite_where_a_float16_sum_overflows(policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = build_classifier(SMALL, 1, [0.0], [1.0], seed=1)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    for variable in model.get_layer(ENCODER).weights:
        if "beta" in variable.name:
            variable.assign(tf.fill(variable.shape, 1000.0))  # features are about this
    images = np.full([1, 128, 128, 1], 255, np.uint8)
    means = keras.Model(model.input, model.get_layer("mean").output)(images, training=False)
    assert means.dtype == model(images, training=False).dtype == tf.float32
    assert np.isfinite(means).all() and means.numpy().max() * 32 * 32 > np.finfo(np.float16).max


def test_seeds_decide_the_weights():
    weights = [build_classifier(SMALL, 3, MEAN, STD, seed).get_weights() for seed in (1, 1, 2)]
    for one, same in zip(weights[0], weights[1], strict=True):
        np.testing.assert_array_equal(one, same)
    assert any(np.any(one != other) for one, other in zip(weights[0], weights[2], strict=True))


@pytest.mark.parametrize("encoder", ["plain", "residual"])
@pytest.mark.parametrize("taken_by", ["unet", "classifier"])
def test_an_encoder_is_taken_over_in_either_direction(tmp_path, encoder, taken_by):
    config = ModelConfig(encoder=encoder, depth=2, filters=4)
    models = {
        "unet": build_unet(config, 3, Labels(2), MEAN, STD, seed=1),
        "classifier": build_classifier(config, 3, MEAN, STD, seed=2),
    }
    taker = models.pop(taken_by)
    (giver,) = models.values()
    giver.save(tmp_path / "model.keras")
    weights = ModelConfig(encoder=encoder, depth=2, filters=4, weights=str(tmp_path / "model.keras"))
    assert "layers begin with the weights" in load_weights(taker, weights)
    for one, other in zip(taker.get_layer(ENCODER).weights, giver.get_layer(ENCODER).weights, strict=True):
        if "step" not in one.name:
            np.testing.assert_array_equal(one, other, err_msg=one.name)


def test_scaled_down_and_noisy_input_and_a_saved_model(tmp_path):
    config = ModelConfig(depth=1, filters=4, input_scaling=2, noise=0.1, window=(0.0, 100.0))
    model = build_classifier(config, 1, [0.0], [1.0], seed=1, stored_window=(10.0, 200.0))
    image = np.random.default_rng(0).integers(0, 256, [2, 8, 8, 1]).astype(np.uint8)
    np.testing.assert_allclose(model(image), model(image.clip(10, 200)), atol=1e-6)
    assert np.any(model(image, training=True) != model(image, training=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded(image), model(image))


@pytest.mark.slow  # keras.applications take seconds to build
def test_an_encoder_of_keras_applications_answers_too():
    model = build_classifier(ModelConfig(encoder="mobilenetv3small", depth=5), 3, MEAN, STD, seed=1)
    assert model(images_of(2, 64), training=False).shape == (2, 1, 1, 1)


def test_true_answers_of_exclusive_classes():
    masks = np.zeros([6, 2, 3], np.uint8)
    masks[1, 0, 2] = 1
    masks[2, 1, 1] = 2
    masks[3] = IGNORE
    masks[4] = IGNORE
    masks[4, 0, 0] = 0  # what is known of it is empty
    masks[5] = IGNORE
    masks[5, 1, 2] = 2
    found = has_object(Labels(3), tf.constant(masks), [1, 2])
    assert found.dtype == tf.uint8
    np.testing.assert_array_equal(found, np.reshape([0, 1, 1, IGNORE, 0, 1], [6, 1, 1]))
    # Only classes that are asked for count.
    np.testing.assert_array_equal(has_object(Labels(3), tf.constant(masks), [2])[:, 0, 0], [0, 0, 1, IGNORE, 0, 1])


def test_true_answers_of_overlapping_classes():
    masks = np.zeros([5, 2, 2], np.uint16)
    masks[1, 0, 1] = 0b101
    masks[2, 1, 1] = 0b010 | IGNORE_BIT  # ignored, whatever else it says
    masks[3] = IGNORE_BIT
    masks[4] = IGNORE_BIT
    masks[4, 0, 0] = 0b100
    found = has_object(Labels(3, overlapping=True), tf.constant(masks), [0, 1, 2])
    np.testing.assert_array_equal(found[:, 0, 0], [0, 1, 0, IGNORE, 1])
