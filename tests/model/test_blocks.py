from itertools import count

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from model.blocks import attention_gate, check_norm, count_groups, double_convolution, normalize, residual_block
from model.config import ModelConfig


def features(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(2, 3, shape).astype(np.float32)


def model_of(function, *shapes: tuple) -> keras.Model:
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, function(*inputs))


@pytest.mark.parametrize(("filters", "groups"), [(1, 1), (4, 4), (7, 7), (8, 8), (12, 6), (16, 8), (22, 2), (11, 1)])
def test_groups_are_at_most_eight_and_of_equal_size(filters, groups):
    assert count_groups(filters) == groups


def test_group_normalisation_equals_plain_numpy_and_knows_no_batch():
    x = features(2, 5, 6, 12)  # 6 groups of 2 filters
    found = model_of(lambda x: normalize(x, ModelConfig(norm="group"), "norm"), x.shape[1:])(x, training=True)
    groups = x.reshape(2, 30, 6, 2).astype(np.float64)
    mean, variance = groups.mean((1, 3), keepdims=True), groups.var((1, 3), keepdims=True)
    expected = ((groups - mean) / np.sqrt(variance + 1e-3)).reshape(x.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_an_attention_gate_equals_plain_numpy():
    skip, gating = features(2, 4, 6, 6), features(2, 2, 3, 5)
    gate = model_of(lambda s, g: attention_gate(s, g, count(3), "gate"), skip.shape[1:], gating.shape[1:])
    rng = np.random.default_rng(1)
    gate.set_weights([rng.normal(size=weight.shape).astype(np.float32) for weight in gate.get_weights()])

    weights = {layer.name: layer.get_weights() for layer in gate.layers}
    (of_skip,), (of_gating, bias), (psi, psi_bias) = (weights[f"gate_{part}"] for part in ("skip", "gating", "psi"))
    patches = skip.reshape(2, 2, 2, 3, 2, 6)  # batch, row, row in patch, column, column in patch, filter
    hidden = np.einsum("bicjdf,cdfo->bijo", patches, of_skip) + gating @ of_gating[0, 0] + bias
    alpha = 1 / (1 + np.exp(-(np.maximum(hidden, 0) @ psi[0, 0] + psi_bias)))
    np.testing.assert_allclose(gate([skip, gating]), skip * doubled(doubled(alpha, 1), 2), rtol=1e-4, atol=1e-4)


def doubled(values: np.ndarray, axis: int) -> np.ndarray:
    """Returns values of double length along the axis, linearly: pixels' centres lie at 1/4 and 3/4 of the old ones."""
    at = np.clip((np.arange(2 * values.shape[axis]) + 0.5) / 2 - 0.5, 0, values.shape[axis] - 1)
    return np.apply_along_axis(lambda line: np.interp(at, np.arange(len(line)), line), axis, values)


def test_a_gate_that_is_shut_lets_nothing_through_and_an_open_one_everything():
    skip, gating = features(1, 4, 4, 2), features(1, 2, 2, 2)
    gate = model_of(lambda s, g: attention_gate(s, g, count(0), "gate"), skip.shape[1:], gating.shape[1:])
    psi = gate.get_layer("gate_psi")
    psi.set_weights([0 * psi.get_weights()[0], np.array([-50.0])])
    np.testing.assert_allclose(gate([skip, gating]), 0 * skip, atol=1e-6)
    psi.set_weights([0 * psi.get_weights()[0], np.array([50.0])])
    np.testing.assert_allclose(gate([skip, gating]), skip, rtol=1e-6)


def test_a_residual_block_without_convolutions_is_its_activated_input():
    x = features(1, 4, 6, 3)
    block = model_of(lambda x: residual_block(x, 3, ModelConfig(norm="none"), count(0), "block"), x.shape[1:])
    block.set_weights([0 * weight for weight in block.get_weights()])
    np.testing.assert_array_equal(block(x), np.maximum(x, 0))
    plain = model_of(lambda x: double_convolution(x, 3, ModelConfig(norm="none"), count(0), "block"), x.shape[1:])
    plain.set_weights([0 * weight for weight in plain.get_weights()])
    np.testing.assert_array_equal(plain(x), 0 * x)


def test_a_residual_block_of_another_shape_has_a_convolved_shortcut():
    config = ModelConfig(norm="none")
    block = model_of(lambda x: residual_block(x, 4, config, count(0), "block", strides=2), (6, 8, 3))
    x = features(1, 6, 8, 3)
    shortcut = block.get_layer("block_shortcut_conv").get_weights()
    for layer in ("block_1_conv", "block_2_conv"):
        block.get_layer(layer).set_weights([0 * weight for weight in block.get_layer(layer).get_weights()])
    expected = np.maximum(x[:, ::2, ::2] @ shortcut[0][0, 0] + shortcut[1], 0)
    np.testing.assert_allclose(block(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        ("swish", lambda x: x / (1 + np.exp(-x))),
        ("leaky_relu", lambda x: np.where(x > 0, x, 0.01 * x)),
    ],
)
def test_activations_equal_their_formulas(activation, expected):
    x = features(1, 4, 6, 1)
    config = ModelConfig(norm="none", activation=activation)
    block = model_of(lambda x: double_convolution(x, 1, config, count(0), "block"), x.shape[1:])
    centre = np.zeros([3, 3, 1, 1], np.float32)
    centre[1, 1] = 1  # the convolution changes nothing
    block.set_weights([centre, np.zeros(1), centre, np.zeros(1)])
    np.testing.assert_allclose(block(x), expected(expected(x)), rtol=1e-5, atol=1e-6)


def test_synchronised_batch_normalisation_wants_gpus():
    class Extended:
        worker_devices = ("/device:CPU:0", "/device:CPU:1")

    class TwoCpus:
        num_replicas_in_sync = 2
        extended = Extended()

    with pytest.raises(ValueError, match=r"model.norm: expected GPUs for sync_batch, .*found /device:CPU:0, /dev"):
        check_norm(ModelConfig(norm="sync_batch"), TwoCpus())
    check_norm(ModelConfig(norm="batch"), TwoCpus())
    check_norm(ModelConfig(norm="sync_batch"), tf.distribute.get_strategy())
    Extended.worker_devices = ("/device:GPU:0", "/device:GPU:1")
    check_norm(ModelConfig(norm="sync_batch"), TwoCpus())
