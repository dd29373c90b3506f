"""Statistics of batch normalisation, where what validates or is saved is not what has just been trained."""

from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf
from tensorflow import keras


def synchronize_statistics(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Gives all replicas the mean of their statistics of batch normalisation.

    That mean is what a checkpoint and a saved model hold. Validated with statistics of their own, replicas would score
    models that nobody gets. As the statistics are linear, taking the mean earlier does not change what it is later.
    """
    if strategy.num_replicas_in_sync > 1:
        for layer in model.submodules:
            if isinstance(layer, keras.layers.BatchNormalization):
                for statistic in (layer.moving_mean, layer.moving_variance):
                    statistic.assign(statistic.numpy())


def recompute_statistics(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    batches: Iterable[Any],
    images_of: Callable[[Any], tf.Tensor],
) -> None:
    """Sets batch normalisation's statistics to their means over batches, by passes in training mode.

    The mean of weights has other activations than any of them, so swa needs this before it is judged or saved
    (Izmailov et al. 2018). Changes what counts training steps within the model: to be called within
    `Updater.averaged`, which puts that back.

    Args:
      model: whose statistics are set; frozen layers keep theirs.
      strategy: its devices.
      batches: a few training batches, distributed.
      images_of: from a batch to what the model takes; runs on each replica.
    """
    layers = [part for part in model.submodules if isinstance(part, keras.layers.BatchNormalization) and part.trainable]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    statistics = [statistic for layer in layers for statistic in (layer.moving_mean, layer.moving_variance)]
    sums, count = [0.0] * len(statistics), 0

    @tf.function
    def forward(batch):
        strategy.run(lambda batch: model(images_of(batch), training=True), args=(batch,))

    try:
        for layer in layers:
            layer.momentum = 0.0  # statistics are then those of the batch
        for batch in batches:
            forward(batch)
            sums = [total + statistic.numpy() for total, statistic in zip(sums, statistics, strict=True)]
            count += 1
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    if not count:
        raise ValueError("batches: expected one or more, found none; statistics are computed from them")
    for total, statistic in zip(sums, statistics, strict=True):
        statistic.assign(total / count)
