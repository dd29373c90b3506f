"""Run by test_optimizer_replicas.py in a process of its own: the CPU can be split before TensorFlow's first use only.

python two_updaters.py prints, as JSON, what every case gives on one and on two replicas.
"""

import json
import tempfile

import numpy as np
import tensorflow as tf
from tensorflow import keras

from training.batch_norm import make_recompute
from training.devices import choose_strategy
from training.optimizer_config import OptimizerConfig
from training.optimizers import Updater

ALL = {"lookahead": True, "lookahead_steps": 2, "average": "ema", "accumulate": 2, "clip_norm": 0.5}
CASES = {
    "adam": OptimizerConfig(),
    **{f"{name} with all": OptimizerConfig(name, **ALL) for name in ("adamw", "lamb")},
    "swa": OptimizerConfig("sgd", average="swa", swa_start=2),
}
X = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(8, 1)).astype(np.float32)


def build(norm: bool) -> keras.Model:
    first, last = (keras.initializers.GlorotUniform(seed) for seed in (1, 2))
    layers = [keras.Input([5]), keras.layers.Dense(4, kernel_initializer=first)]
    if norm:
        layers.append(keras.layers.BatchNormalization())
    layers.append(keras.layers.Dense(1, kernel_initializer=last, dtype="float32"))
    return keras.Sequential(layers)


def make(strategy, config: OptimizerConfig, loss_scaling: bool, norm: bool = False):
    with strategy.scope():
        model = build(norm)
        updater = Updater(config, model, loss_scaling)

    def replica(batch):
        x, y = batch
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((model(x, training=True) - y) ** 2) / len(X)
            objective = updater.scale_loss(loss)
        updater.update(tape.gradient(objective, model.trainable_variables), model.trainable_variables)
        return loss

    @tf.function
    def step(batch, rate):
        updater.set_learning_rate(rate)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(replica, args=(batch,)), axis=None)

    return model, updater, step


def batches(strategy, count: int, overflow: int | None = None):
    examples = [(X + 0.1 * index, Y.copy()) for index in range(count)]
    if overflow is not None:
        examples[overflow][1][4:] = np.nan  # of two replicas, the second one alone sees it
    dataset = tf.data.Dataset.from_tensor_slices(tuple(map(np.stack, zip(*examples, strict=True))))
    return strategy.experimental_distribute_dataset(dataset)


def values(model) -> list:
    return [variable.numpy().tolist() for variable in model.variables]


def run(strategy, config, loss_scaling: bool, overflow: int | None) -> dict:
    model, updater, step = make(strategy, config, loss_scaling)
    losses = []
    for index, batch in enumerate(batches(strategy, 6, overflow)):
        losses.append(float(step(batch, tf.constant(0.05))))
        updater.end_epoch(strategy, index)
    result = {"losses": losses, "raw": values(model)}
    with updater.averaged(strategy):
        result["averaged"] = values(model)
    return result


def resume(strategy, config) -> dict:
    """Returns the weights of 5 steps, and of 3, a checkpoint and 2 in new objects."""
    model, _, step = make(strategy, config, True, norm=True)
    for batch in batches(strategy, 5):
        step(batch, tf.constant(0.05))
    first, updater, step = make(strategy, config, True, norm=True)
    for batch in list(batches(strategy, 5))[:3]:
        step(batch, tf.constant(0.05))
    with tempfile.TemporaryDirectory() as folder:
        path = tf.train.Checkpoint(model=first, updater=updater).save(f"{folder}/checkpoint")
        second, updater, step = make(strategy, config, True, norm=True)
        tf.train.Checkpoint(model=second, updater=updater).restore(path).assert_consumed()
    for batch in list(batches(strategy, 5))[3:]:
        step(batch, tf.constant(0.05))
    return {
        "straight": [v.numpy().tolist() for v in model.trainable_variables],
        "resumed": [v.numpy().tolist() for v in second.trainable_variables],
    }


def statistics(strategy) -> dict:
    """Returns batch normalisation's statistics, and each replica's variables before and after the averages."""
    model, updater, step = make(strategy, OptimizerConfig(average="ema"), False, norm=True)
    for batch in batches(strategy, 3):
        step(batch, tf.constant(0.05))

    def parts():
        found = [part for variable in model.variables for part in strategy.experimental_local_results(variable)]
        return [part.numpy().tolist() for part in found]

    before = parts()
    with updater.averaged(strategy):
        assert parts() != before
        make_recompute(model, strategy, lambda batch: batch[0])(batches(strategy, 3))
        norm = model.layers[1]
        kernel, bias = model.layers[0].get_weights()
        found = {"mean": norm.moving_mean.numpy().tolist(), "kernel": kernel.tolist(), "bias": bias.tolist()}
    return found | {"before": before, "after": parts()}


def main() -> None:
    strategies = {2: choose_strategy(2)[0], 1: tf.distribute.get_strategy()}
    results = {}
    for count, strategy in strategies.items():
        for name, config in CASES.items():
            results[f"{name}/{count}"] = run(strategy, config, False, None)
        results[f"overflow/{count}"] = run(strategy, CASES["adamw with all"], True, 2)
        keras.mixed_precision.set_global_policy("mixed_float16")
        results[f"float16/{count}"] = run(strategy, CASES["adamw with all"], True, None)
        results[f"statistics/{count}"] = statistics(strategy)
        keras.mixed_precision.set_global_policy("float32")
    for name in ("adamw with all", "lamb with all"):
        results[f"resume {name}"] = resume(strategies[2], CASES[name])
    print(json.dumps(results))


if __name__ == "__main__":
    main()
