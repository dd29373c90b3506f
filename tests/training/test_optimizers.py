"""Laws of updates, on one device; `test_optimizer_replicas.py` has those of several."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tests.training.trained import STRATEGY, Trained, X, Y, assert_equal, deep_model, linear_model
from training.optimizer_config import OptimizerConfig
from training.optimizers import Updater


def test_sgd_as_computed_by_hand():
    trained = Trained(OptimizerConfig("sgd", momentum=0.5), linear_model())
    trained.give([[[1.0], [2.0]], [4.0]])
    np.testing.assert_allclose(trained.values[0][:, 0], [0.9, -2.2], rtol=1e-6)
    trained.give([[[1.0], [2.0]], [4.0]], rate=0.2)
    # The velocity was -0.1 g; half of it stays.
    np.testing.assert_allclose(trained.values[0][:, 0], [0.9 - 0.05 - 0.2, -2.2 - 0.1 - 0.4], rtol=1e-6)
    np.testing.assert_allclose(trained.values[1], [0.5 - 0.4 - 0.2 - 0.8], rtol=1e-5)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adams_first_step_is_the_rate_whatever_the_gradient(name):
    trained = Trained(OptimizerConfig(name, weight_decay=0.0), linear_model())
    trained.give([[[1e-2], [-30.0]], [4.0]])
    np.testing.assert_allclose(trained.values[0][:, 0], [0.9, -1.9], rtol=1e-4)
    np.testing.assert_allclose(trained.values[1], [0.4], rtol=1e-4)


def test_lambs_first_step_is_the_rate_times_the_norm_of_the_weights():
    trained = Trained(OptimizerConfig("lamb", weight_decay=0.0), linear_model((3.0, -4.0)))
    trained.give([[[1e-1], [-30.0]], [4.0]])
    # Adam's step is (1, -1), of norm sqrt(2); the weights' norm is 5. Biases take Adam's step.
    step = 0.1 * 5 / np.sqrt(2)
    np.testing.assert_allclose(trained.values[0][:, 0], [3 - step, -4 + step], rtol=1e-4)
    np.testing.assert_allclose(trained.values[1], [0.4], rtol=1e-4)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb"])
def test_weight_decay_leaves_biases_and_normalisation_alone(name):
    config = OptimizerConfig(name, weight_decay=0.5)
    trained = Trained(config, deep_model())
    before = [variable.numpy() for variable in trained.variables]
    trained.give([np.zeros(variable.shape) for variable in trained.variables])
    after = [variable.numpy() for variable in trained.variables]
    for old, new in zip(before, after, strict=True):
        if old.ndim == 1:
            np.testing.assert_array_equal(new, old)
        else:
            # LAMB gives the decay, which is all of its step here, the norm of the weights.
            np.testing.assert_allclose(new, old * (0.9 if name == "lamb" else 0.95), rtol=1e-5)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "lamb"])
def test_two_accumulated_halves_are_one_batch(name):
    whole = Trained(OptimizerConfig(name), deep_model(norm=False))
    halves = Trained(OptimizerConfig(name, accumulate=2), deep_model(norm=False))
    for _ in range(3):
        whole.step()
        halves.step(X[:4], Y[:4])
        halves.step(X[4:], Y[4:])
    for one, two in zip(whole.values, halves.values, strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-5)


def test_nothing_changes_before_the_last_accumulated_step():
    trained = Trained(OptimizerConfig(accumulate=3), linear_model())
    before = trained.values
    trained.give([np.ones((2, 1)), np.ones(1)])
    trained.give([np.ones((2, 1)), np.ones(1)])
    assert_equal(trained.values, before)
    trained.give([np.ones((2, 1)), np.ones(1)])
    assert (trained.values[0] != before[0]).all()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_clipping_bounds_the_norm_over_all_weights_of_the_mean(accumulate):
    config = OptimizerConfig("sgd", momentum=0.0, clip_norm=6.5, accumulate=accumulate)
    trained = Trained(config, linear_model((0.0, 0.0), 0.0))
    for _ in range(accumulate):
        trained.give([[[3.0], [4.0]], [12.0]], rate=1.0)  # of norm 13
    np.testing.assert_allclose(np.concatenate([trained.values[0][:, 0], trained.values[1]]), [-1.5, -2, -6], rtol=1e-6)


def test_gradients_below_the_norm_are_not_clipped():
    trained = Trained(OptimizerConfig("sgd", momentum=0.0, clip_norm=13.5), linear_model((0.0, 0.0), 0.0))
    trained.give([[[3.0], [4.0]], [12.0]], rate=1.0)
    np.testing.assert_allclose(trained.values[0][:, 0], [-3, -4], rtol=1e-6)


def test_lookahead_as_computed_by_hand():
    config = OptimizerConfig("sgd", momentum=0.0, lookahead=True, lookahead_steps=2, lookahead_rate=0.25)
    trained = Trained(config, linear_model((0.0, 8.0), 0.0))
    found = []
    for _ in range(4):
        trained.give([[[-1.0], [0.0]], [0.0]], rate=1.0)
        found.append(float(trained.values[0][0, 0]))
    # 1, 2 -> 0 + 2/4; then 1.5, 2.5 -> 0.5 + 2/4
    assert found == pytest.approx([1, 0.5, 1.5, 1.0])
    assert trained.values[0][1, 0] == 8


def test_loss_scaling_changes_no_update():
    plain, scaled = (Trained(OptimizerConfig(), deep_model(), loss_scaling) for loss_scaling in (False, True))
    for _ in range(3):
        plain.step()
        scaled.step()
    for one, two in zip(plain.values, scaled.values, strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize(
    "settings",
    [{}, {"accumulate": 2}, {"lookahead": True, "lookahead_steps": 2}, {"average": "ema", "ema_decay": 0.5}],
)
def test_an_overflow_counts_nowhere(settings, bad):
    """The same run without the overflowing steps ends bit for bit alike: scales are powers of two."""
    one, other = (Trained(OptimizerConfig(**settings), linear_model(), loss_scaling=True) for _ in range(2))
    good = [np.array([[1.0], [2.0]]), np.array([3.0])]
    for index in range(4):
        scale = 2.0**15
        one.give([g * scale * (index + 1) for g in good])
        scale = float(other.updater._scale)
        other.give([g * scale * (index + 1) for g in good])
        before = other.values
        other.give([good[0], np.array([bad])])
        assert_equal(other.values, before)
        assert float(other.updater._scale) == scale / 2
    assert_equal(other.values, one.values)
    with one.updater.averaged(STRATEGY), other.updater.averaged(STRATEGY):
        assert_equal(other.values, one.values)


def test_the_loss_scale_doubles_after_2000_good_steps_and_stays_at_least_1():
    trained = Trained(OptimizerConfig(), linear_model(), loss_scaling=True)
    updater, good = trained.updater, [np.zeros((2, 1)), np.zeros(1)]
    updater._good_steps.assign(1998)
    scales = []
    for _ in range(3):
        trained.give(good)
        scales.append(float(updater._scale))
    assert scales == [2**15, 2**16, 2**16]
    assert int(updater._good_steps) == 1
    updater._scale.assign(2.0)
    for scale in (1, 1):
        assert not updater.is_stuck
        trained.give(good)
        trained.give([np.full((2, 1), np.nan), np.zeros(1)])
        assert float(updater._scale) == scale
        assert int(updater._good_steps) == 0
        assert updater.is_stuck
        trained.give(good)


COMBINATIONS = list(
    itertools.product(["adam", "adamw", "sgd", "lamb"], [False, True], ["none", "ema", "swa"], [1, 2], [False, True])
)


def run_steps(trained: Trained, numbers) -> None:
    for number in numbers:
        trained.give([(number - 2) * (0.5 + np.indices(v.shape).sum(0)) for v in trained.variables])
        trained.updater.end_epoch(STRATEGY, number)


@pytest.mark.parametrize(
    ("name", "lookahead", "average", "accumulate", "scaling"),
    [pytest.param(*each, marks=[] if each[0] == "adamw" else pytest.mark.slow) for each in COMBINATIONS],
)
def test_a_resumed_run_is_an_uninterrupted_one(name, lookahead, average, accumulate, scaling, tmp_path):
    settings = ({"lookahead_steps": 2} if lookahead else {}) | ({"swa_start": 2} if average == "swa" else {})
    config = OptimizerConfig(
        name, lookahead=lookahead, average=average, accumulate=accumulate, clip_norm=1.0, **settings
    )
    straight = Trained(config, linear_model(), scaling)
    run_steps(straight, range(3))
    path = straight.checkpoint.save(str(tmp_path / "checkpoint"))
    run_steps(straight, range(3, 5))
    second = Trained(config, linear_model((0.0, 7.0), 1.0), scaling)
    second.checkpoint.restore(path).assert_consumed()
    run_steps(second, range(3, 5))
    assert_equal(second.values, straight.values)
    for trained in (second, straight):
        assert trained.updater.is_averaging == (average != "none")
    with second.updater.averaged(STRATEGY), straight.updater.averaged(STRATEGY):
        assert_equal(second.values, straight.values)


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_xla_compiles_the_step(name):
    config = OptimizerConfig(name, lookahead=True, lookahead_steps=2, average="ema", accumulate=2, clip_norm=1.0)
    plain, compiled = Trained(config, deep_model(), True), Trained(config, deep_model(), True)
    compiled._step = tf.function(compiled._step.python_function, jit_compile=True)
    for _ in range(4):
        plain.step()
        compiled.step()
    for one, two in zip(plain.values, compiled.values, strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_without_being_asked_xla_compiles_no_update_beside_a_gpu(monkeypatch, name):
    monkeypatch.setattr(tf.compat.v2.config, "list_physical_devices", lambda kind: ["a GPU"])
    assert keras.optimizers.Adam().jit_compile  # what is to be prevented
    updater = Updater(OptimizerConfig(name), linear_model(), loss_scaling=False)
    assert not updater._optimizer.jit_compile


def test_weights_that_are_frozen_for_some_steps_stay_and_move_later():
    model = deep_model()
    trained = Trained(OptimizerConfig("adamw", lookahead=True, accumulate=2, average="ema"), model)
    frozen = model.layers[0]
    before = frozen.get_weights()
    frozen.trainable = False
    variables = model.trainable_variables
    for _ in range(4):
        STRATEGY.run(lambda: trained.updater.update([tf.ones_like(v) for v in variables], variables))
    assert_equal(frozen.get_weights(), before)
    frozen.trainable = True
    trained.give([np.ones(v.shape) for v in trained.variables])
    trained.give([np.ones(v.shape) for v in trained.variables])
    assert (frozen.get_weights()[0] != before[0]).all()


def test_the_rate_is_scaled_with_the_batch():
    assert OptimizerConfig(scale_rate="none").rate_scale(999) == 1
    assert OptimizerConfig(scale_rate="linear", reference_batch_size=16).rate_scale(64) == 4
    assert OptimizerConfig(scale_rate="linear", reference_batch_size=16).rate_scale(4) == 0.25
    assert OptimizerConfig(scale_rate="linear", reference_batch_size=16, accumulate=3).rate_scale(32) == 6
    assert OptimizerConfig(scale_rate="sqrt", reference_batch_size=16, accumulate=2).rate_scale(32) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"accumulate": 0}, "accumulate: expected at least 1, found 0"),
        ({"lookahead_steps": 0}, "lookahead_steps: expected at least 1, found 0"),
        ({"swa_start": 0}, "swa_start: expected at least 1, found 0"),
        ({"reference_batch_size": 0}, "reference_batch_size: expected at least 1, found 0"),
        ({"weight_decay": 0.1}, "weight_decay: adam has none, found 0.1; choose adamw"),
        ({"name": "sgd", "weight_decay": -1.0}, "weight_decay: expected at least 0, or null, found -1.0"),
        ({"momentum": 1.0}, "momentum: expected 0 to less than 1, found 1.0"),
        ({"nesterov": True}, "nesterov: expected sgd with momentum"),
        ({"name": "sgd", "nesterov": True, "momentum": 0.0}, "nesterov: expected sgd with momentum"),
        ({"lookahead_rate": 0.0}, "lookahead_rate: expected more than 0, at most 1, found 0.0"),
        ({"ema_decay": 1.0}, "ema_decay: expected a number between 0 and 1, found 1.0"),
        ({"clip_norm": 0.0}, "clip_norm: expected more than 0, or null, found 0.0"),
        ({"clip_norm": math.nan}, "clip_norm: expected more than 0, or null, found nan"),
        ({"name": "sgd", "weight_decay": math.nan}, "weight_decay: expected at least 0, or null, found nan"),
        ({"momentum": 0.5}, "optimizer.momentum: found 0.5, which only --optimizer.name sgd reads; leave it out"),
        ({"lookahead_rate": 0.4}, "lookahead_rate: found 0.4, which only --optimizer.lookahead reads"),
        ({"average": "swa", "ema_decay": 0.9}, "ema_decay: found 0.9, which only --optimizer.average ema reads"),
        ({"reference_batch_size": 8}, "found 8, which only --optimizer.scale_rate linear or sqrt reads"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(OptimizerConfig(), **settings)
