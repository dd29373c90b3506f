"""Statistics of batch normalisation, where what validates or is saved is not what has just been trained."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
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


def make_recompute(
    model: keras.Model, strategy: tf.distribute.Strategy, images_of: Callable[[Any], tf.Tensor]
) -> Callable[[Iterable[Any]], None]:
    """Returns a function that sets batch normalisation's statistics to their means over a few distributed batches.

    It takes them by passes in training mode. The mean of weights has other activations than any of them, so swa needs
    this before it is judged or saved (Izmailov et al. 2018). Changes what counts training steps within the model: to be
    called within `Updater.averaged`, which puts that back.

    Args:
      model: whose statistics are set; layers that are frozen now keep theirs.
      strategy: its devices.
      images_of: from a batch to what the model takes; runs on each replica.
    """
    layers = [part for part in model.submodules if isinstance(part, keras.layers.BatchNormalization) and part.trainable]
    statistics = [statistic for layer in layers for statistic in (layer.moving_mean, layer.moving_variance)]

    @tf.function
    def forward(batch):
        strategy.run(lambda batch: model(images_of(batch), training=True), args=(batch,))

    def recompute(batches: Iterable[Any]) -> None:
        if not layers:
            return
        sums, count = [0.0] * len(statistics), 0
        with _without_memory(layers):
            for batch in batches:
                forward(batch)
                sums = [total + statistic.numpy() for total, statistic in zip(sums, statistics, strict=True)]
                count += 1
        if not count:
            raise ValueError("batches: expected one or more, found none; statistics are computed from them")
        for total, statistic in zip(sums, statistics, strict=True):
            statistic.assign(total / count)

    return recompute


@contextlib.contextmanager
def _without_memory(layers: list[keras.layers.BatchNormalization]) -> Iterator[None]:
    """Lets layers take the statistics of each batch as they are: where passes are traced, and so ever after."""
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
