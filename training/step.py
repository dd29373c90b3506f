"""One training step and one evaluation step, on all replicas."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow import keras

from model.augment import augment
from model.labels import Labels
from model.losses import LOSSES
from model.metrics import Overlap, count_pixels
from training.config import TrainConfig

THRESHOLD = 0.5


class Steps(NamedTuple):
    """train(batch, step, learning_rate) -> loss, feeds `overlap`; evaluate(batch) -> (loss sum, weight sum), feeds
    `validation_overlap`; predict(images) -> masks, on one device."""

    train: Callable[..., tf.Tensor]
    evaluate: Callable[..., tuple[tf.Tensor, tf.Tensor]]
    overlap: Overlap
    validation_overlap: Overlap
    predict: Callable[[tf.Tensor], tf.Tensor]


def make_optimizer(config: TrainConfig) -> keras.optimizers.Optimizer:
    """Returns Adam, with loss scaling where the precision policy computes in float16."""
    optimizer = keras.optimizers.Adam(config.learning_rate)
    if keras.mixed_precision.global_policy().compute_dtype == "float16":
        return keras.mixed_precision.LossScaleOptimizer(optimizer)
    return optimizer


def make_steps(
    config: TrainConfig,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    labels: Labels,
    classes: list[int],
) -> Steps:
    """Returns compiled steps. To be called within the strategy's scope.

    Args:
      config: settings.
      model: from images to logits.
      optimizer: as `make_optimizer` returns it.
      strategy: what distributes the batches.
      labels: what masks and logits mean.
      classes: the classes to score.
    """
    loss_of = LOSSES[config.loss]
    overlap, validation_overlap = Overlap(len(classes)), Overlap(len(classes))
    scaled = isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)
    local_batch = config.global_batch_size // strategy.num_replicas_in_sync

    def classify(logits):
        return labels.classify(labels.probabilities(logits), THRESHOLD)

    def train_replica(images, masks, step):
        first = tf.distribute.get_replica_context().replica_id_in_sync_group * local_batch
        images, masks = augment(images, masks, config.augment, config.seed, step, first, config.global_batch_size)
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            # The mean over the global batch: optimizers sum the replicas' gradients.
            loss = tf.reduce_sum(loss_of(labels, masks, logits)) / config.global_batch_size
            objective = optimizer.get_scaled_loss(loss) if scaled else loss
        gradients = tape.gradient(objective, model.trainable_variables)
        if scaled:
            gradients = optimizer.get_unscaled_gradients(gradients)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        predicted = classify(logits)
        overlap.update_state(count_pixels(labels, masks, predicted, classes))
        return loss

    @tf.function
    def train(batch: dict[str, Any], step, learning_rate):
        optimizer.learning_rate.assign(learning_rate)
        losses = strategy.run(train_replica, (batch["image"], batch["mask"], step))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

    def evaluate_replica(images, masks, weights):
        logits = model(images, training=False)
        predicted = classify(logits)
        validation_overlap.update_state(count_pixels(labels, masks, predicted, classes), weights)
        return tf.reduce_sum(loss_of(labels, masks, logits) * weights), tf.reduce_sum(weights)

    @tf.function
    def evaluate(batch: dict[str, Any]):
        results = strategy.run(evaluate_replica, (batch["image"], batch["mask"], batch["weight"]))
        return tuple(strategy.reduce(tf.distribute.ReduceOp.SUM, result, axis=None) for result in results)

    @tf.function
    def predict(images):
        return classify(model(images, training=False))

    return Steps(train, evaluate, overlap, validation_overlap, predict)
