"""Averages of weights, on one device."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tests.training.trained import STRATEGY, Trained, X, Y, assert_equal, deep_model, linear_model
from training.batch_norm import make_recompute
from training.optimizer_config import OptimizerConfig


def test_exponential_averages_as_computed_by_hand():
    config = OptimizerConfig("sgd", momentum=0.0, average="ema", ema_decay=0.1)
    trained = Trained(config, linear_model((0.0, 8.0), 0.0))
    assert not trained.updater.is_averaging
    for _ in range(3):
        trained.give([[[-1.0], [0.0]], [0.0]], rate=1.0)
    # Weights 1, 2, 3; what is kept: 0, 1/11, then 0.1 (less than 2/12).
    second = 2 - 1 / 11
    third = 3 - 0.1 * (3 - second)
    with trained.updater.averaged(STRATEGY):
        np.testing.assert_allclose(trained.values[0][:, 0], [third, 8], rtol=1e-6)
    np.testing.assert_array_equal(trained.values[0][:, 0], [3, 8])


def test_exponential_averages_hold_batch_normalisations_statistics():
    trained = Trained(OptimizerConfig(average="ema", ema_decay=0.1), deep_model())
    (statistic,) = [variable for variable in trained.model.variables if "moving_mean" in variable.name]
    seen = []
    for index in range(2):
        trained.step(X + index)
        seen.append(statistic.numpy())
    with trained.updater.averaged(STRATEGY):
        np.testing.assert_allclose(statistic.numpy(), seen[1] + (seen[0] - seen[1]) / 11, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(statistic.numpy(), seen[1])


def test_an_accumulated_step_is_averaged_once():
    config = OptimizerConfig("sgd", momentum=0.0, average="ema", ema_decay=0.5, accumulate=2)
    trained = Trained(config, linear_model((0.0, 0.0), 0.0))
    for _ in range(4):
        trained.give([[[-1.0], [0.0]], [0.0]], rate=1.0)
    with trained.updater.averaged(STRATEGY):
        assert trained.values[0][0, 0] == pytest.approx(2 - 1 / 11)


def test_swa_is_the_mean_over_the_ends_of_epochs_from_its_start_on():
    trained = Trained(OptimizerConfig("sgd", average="swa", swa_start=3), deep_model())
    ends = []
    for epoch in range(5):
        trained.step()
        trained.step(X[:4], Y[:4])
        trained.updater.end_epoch(STRATEGY, epoch)
        ends.append(trained.values)
        assert trained.updater.is_averaging == (epoch >= 2)
    before = trained.values
    with trained.updater.averaged(STRATEGY):
        for found, values in zip(trained.values, zip(*ends[2:], strict=True), strict=True):
            np.testing.assert_allclose(found, np.mean(values, 0), rtol=1e-5, atol=1e-6)
    assert_equal(trained.values, before)


def test_without_averages_the_model_is_left_alone():
    trained = Trained(OptimizerConfig(), deep_model())
    trained.step()
    trained.updater.end_epoch(STRATEGY, 40)
    before = trained.values
    with trained.updater.averaged(STRATEGY):
        assert_equal(trained.values, before)


def test_the_raw_weights_come_back_after_an_error():
    trained = Trained(OptimizerConfig(average="ema"), deep_model())
    trained.step()
    trained.step()
    before = trained.values
    with pytest.raises(RuntimeError, match="full disk"), trained.updater.averaged(STRATEGY):
        raise RuntimeError("full disk")
    assert_equal(trained.values, before)


def test_statistics_are_the_means_over_batches():
    model = deep_model()
    norm = model.layers[1]
    batches = [X[:4], X[4:], X[2:6] * 3]
    inner = keras.Model(model.inputs, model.layers[0].output)
    outputs = [inner(batch).numpy() for batch in batches]
    make_recompute(model, STRATEGY, lambda batch: batch)([tf.constant(batch) for batch in batches])
    np.testing.assert_allclose(norm.moving_mean, np.mean([o.mean(0) for o in outputs], 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(norm.moving_variance, np.mean([o.var(0) for o in outputs], 0), rtol=1e-5, atol=1e-6)
    assert norm.momentum == 0.9


def test_frozen_layers_keep_their_statistics():
    model = deep_model()
    model.layers[1].trainable = False
    before = model.layers[1].moving_mean.numpy()
    make_recompute(model, STRATEGY, lambda batch: batch)([tf.constant(X)])
    np.testing.assert_array_equal(model.layers[1].moving_mean, before)


def test_statistics_of_no_batches_are_refused():
    with pytest.raises(ValueError, match="batches: expected one or more, found none"):
        make_recompute(deep_model(), STRATEGY, lambda batch: batch)([])


def test_the_network_is_traced_once_and_statistics_follow_its_weights():
    model, traced = deep_model(), []
    recompute = make_recompute(model, STRATEGY, lambda batch: traced.append(batch) or batch)
    norm, inner = model.layers[1], keras.Model(model.inputs, model.layers[0].output)
    for _ in range(2):
        recompute([tf.constant(X[:4]), tf.constant(X[4:])])
        expected = (inner(X[:4]).numpy().mean(0) + inner(X[4:]).numpy().mean(0)) / 2
        np.testing.assert_allclose(norm.moving_mean, expected, rtol=1e-5, atol=1e-6)
        model.layers[0].set_weights([weights + 1 for weights in model.layers[0].get_weights()])
    assert len(traced) == 1
