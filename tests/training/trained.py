"""A small model with its updater, and a compiled step."""

import numpy as np
import tensorflow as tf
from tensorflow import keras

from training.optimizer_config import OptimizerConfig
from training.optimizers import Updater

STRATEGY = tf.distribute.get_strategy()
X = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(8, 1)).astype(np.float32)


def linear_model(weights=(1.0, -2.0), bias=0.5) -> keras.Model:
    """Returns y = weights . x + bias."""
    inputs = keras.Input([len(weights)])
    layer = keras.layers.Dense(1)
    model = keras.Model(inputs, layer(inputs))
    layer.set_weights([np.array(weights, np.float32)[:, None], np.array([bias], np.float32)])
    return model


def deep_model(norm: bool = True, seed: int = 0) -> keras.Model:
    initializers = (keras.initializers.GlorotUniform(seed + index) for index in range(2))
    layers = [keras.Input([5]), keras.layers.Dense(4, "tanh", kernel_initializer=next(initializers))]
    if norm:
        layers.append(keras.layers.BatchNormalization(momentum=0.9))
    return keras.Sequential([*layers, keras.layers.Dense(1, kernel_initializer=next(initializers))])


class Trained:
    """A model, its updater and a compiled step, with a checkpoint of both."""

    def __init__(self, config: OptimizerConfig, model: keras.Model, loss_scaling: bool = False):
        self.model, self.updater = model, Updater(config, model, loss_scaling)
        self.checkpoint = tf.train.Checkpoint(model=model, updater=self.updater)

        def replica(x, y):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
                objective = self.updater.scale_loss(loss)
            variables = model.trainable_variables
            self.updater.update(tape.gradient(objective, variables), variables)

        @tf.function
        def step(x, y, rate):
            self.updater.set_learning_rate(rate)
            STRATEGY.run(replica, (x, y))

        self._step = step

    def step(self, x=X, y=Y, rate=0.1):
        self._step(tf.constant(x), tf.constant(y), tf.constant(rate, tf.float32))

    def give(self, gradients, rate=0.1):
        """Takes a step by these gradients."""
        self.updater.set_learning_rate(rate)
        STRATEGY.run(lambda: self.updater.update([tf.constant(g, tf.float32) for g in gradients], self.variables))

    @property
    def variables(self):
        return self.model.trainable_variables

    @property
    def values(self):
        return [variable.numpy() for variable in self.model.variables]


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
