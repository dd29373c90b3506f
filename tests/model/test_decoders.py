import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from model.config import ModelConfig
from model.labels import Labels
from model.unet import build_unet, supervised_model

LABELS = Labels(3)


def models(**settings) -> tuple[keras.Model, keras.Model, ModelConfig]:
    """Returns (model, its model for training, their settings)."""
    config = ModelConfig(**{"depth": 2, "filters": 2, "dropout": 0.0} | settings)
    model = build_unet(config, 3, LABELS, [128.0] * 3, [70.0] * 3, seed=1)
    return model, supervised_model(model, config, LABELS, seed=1), config


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def convolution(size: int, inputs: int, outputs: int) -> int:
    return size * size * inputs * outputs + outputs


def two(inputs: int, filters: int) -> int:
    return convolution(3, inputs, filters) + convolution(3, filters, filters)


def test_parameters_of_chosen_widths_by_hand():
    model, _, _ = models(filters=(2, 3, 5), norm="none")
    down = two(3, 2) + two(2, 3) + two(3, 5)
    up = convolution(1, 5, 3) + two(3 + 3, 3) + convolution(1, 3, 2) + two(2 + 2, 2)
    assert model.count_params() == down + up + convolution(1, 2, 3)


def test_parameters_of_the_nested_decoder_by_hand():
    model, _, _ = models(decoder="unetpp", norm="none")
    down = two(3, 2) + two(2, 4) + two(4, 8)
    first = convolution(1, 4, 2) + two(2 + 2, 2)
    second = convolution(1, 8, 4) + two(4 + 4, 4)
    last = convolution(1, 4, 2) + two(2 + 2 + 2, 2)
    assert model.count_params() == down + first + second + last + convolution(1, 2, 3)


def test_parameters_of_gates_and_shortcuts_by_hand():
    plain, gated, residual = (models(norm="none", **s)[0] for s in ({}, {"attention": True}, {"encoder": "residual"}))
    gates = [
        2 * 2 * skip * half + convolution(1, below, half) + half + 1 for skip, below, half in [(4, 8, 2), (2, 4, 1)]
    ]
    assert gated.count_params() - plain.count_params() == sum(gates)
    shortcuts = [(3, 2), (2, 4), (4, 8), (8, 4), (4, 2)]  # of levels whose widths change, the decoder's joined
    assert residual.count_params() - plain.count_params() == sum(convolution(1, *shapes) for shapes in shortcuts)


def test_deep_supervision_adds_heads_and_leaves_the_model_as_it_was():
    model, supervised, config = models(depth=3, deep_supervision=True)
    images = random_pixels(2, 16, 24, 3)
    logits, half, quarter = supervised(images)
    np.testing.assert_array_equal(logits, model(images))
    assert half.shape == (2, 8, 12, 3)
    assert quarter.shape == (2, 4, 6, 3)
    heads = convolution(1, 4, 3) + convolution(1, 8, 3)
    assert supervised.count_params() - model.count_params() == heads
    again = supervised_model(model, config, LABELS, seed=1)
    np.testing.assert_array_equal(again(images)[2], quarter)
    plain, same, _ = models(depth=3)
    assert plain is same


def test_the_nested_decoders_other_nodes_are_judged_at_full_size():
    model, supervised, _ = models(depth=3, deep_supervision=True, decoder="unetpp", input_scaling=2)
    images = random_pixels(1, 16, 32, 3)
    outputs = supervised(images)
    assert [output.shape for output in outputs] == [(1, 16, 32, 3)] * 3
    np.testing.assert_array_equal(outputs[0], model(images))


def test_a_network_sees_a_scaled_input_as_means_of_pixels():
    model, _, config = models(input_scaling=2)
    assert config.multiple == 8
    images = random_pixels(1, 16, 16, 3)
    means = images.reshape(1, 8, 2, 8, 2, 3).mean((2, 4), keepdims=True)
    blurred = np.broadcast_to(means, (1, 8, 2, 8, 2, 3)).reshape(1, 16, 16, 3)
    np.testing.assert_allclose(model(blurred), model(images.astype(np.float64)), rtol=1e-3, atol=1e-4)
    small = keras.Model(model.input, model.get_layer("logits_small").output)(images)
    np.testing.assert_allclose(model(images), tf.image.resize(small, [16, 16]), rtol=1e-5, atol=1e-6)


OPTIONS = [
    {"encoder": "residual", "attention": True},
    {"decoder": "unetpp", "deep_supervision": True, "input_scaling": 2},
    {"deep_supervision": True, "attention": True, "norm": "group", "activation": "swish"},
    {"upsampling": "transpose", "activation": "leaky_relu", "norm": "none", "decoder": "unetpp", "attention": True},
]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("options", OPTIONS)
def test_logits_are_float32_and_gradients_are_finite_and_reach_all(options, policy):
    check_gradients(options, policy, jit_compile=False)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("options", OPTIONS)
def test_decoders_compile_under_xla(options, policy):
    check_gradients(options, policy, jit_compile=True)


def check_gradients(options: dict, policy: str, jit_compile: bool):
    keras.mixed_precision.set_global_policy(policy)
    try:
        _, model, _ = models(**options)
    finally:
        keras.mixed_precision.set_global_policy("float32")

    def gradients(images):
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(model(images, training=True))
            loss = sum(tf.reduce_mean(output**2) for output in outputs)
        return outputs, tape.gradient(loss, model.trainable_variables)

    compute = tf.function(gradients, jit_compile=True) if jit_compile else gradients
    outputs, found = compute(tf.constant(random_pixels(2, 16, 16, 3)))
    assert all(output.dtype == tf.float32 for output in outputs)
    for variable, gradient in zip(model.trainable_variables, found, strict=True):
        assert gradient is not None, variable.name
        assert np.isfinite(gradient).all(), variable.name


@pytest.mark.parametrize("options", OPTIONS)
def test_a_saved_decoder_gives_equal_logits(options, tmp_path):
    model, _, _ = models(**options)
    images = random_pixels(1, 16, 16, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded(images), model(images))
