"""One training step and one evaluation step, on all replicas."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow import keras

from model.augment import augment
from model.metrics import Overlap, count_pixels
from training.batch_norm import make_recompute
from training.config import TrainConfig
from training.optimizers import Updater
from training.task import Task

THRESHOLD = 0.5


class Steps(NamedTuple):
    """The compiled steps and the metrics that they feed.

    Workers of several machines must decide alike: what each of them wishes for, float32 [any], travels with a step and
    comes back as the sum over all replicas.

    Attributes:
      train: (batch, step, learning_rate, wishes) -> (loss, wishes); feeds `overlap`.
      evaluate: (batch, wishes) -> (loss sum, weight sum, wishes); feeds `validation_overlap`.
      predict: images -> masks, on one device; all workers must call it, for statistics may be averaged over them.
      recompute: distributed training batches -> nothing; see `make_recompute`.
      overlap, validation_overlap: metrics.
    """

    train: Callable[..., tuple[tf.Tensor, tf.Tensor]]
    evaluate: Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]]
    predict: Callable[[tf.Tensor], tf.Tensor]
    recompute: Callable[[Iterable[dict[str, Any]]], None]
    overlap: Overlap
    validation_overlap: Overlap


def make_steps(
    config: TrainConfig,
    model: keras.Model,
    supervised: keras.Model,
    updater: Updater,
    loss_of: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    strategy: tf.distribute.Strategy,
    task: Task,
    overlaps: tuple[Overlap, Overlap],
) -> Steps:
    """Returns compiled steps, which train what is trainable now. To be called within the strategy's scope.

    Args:
      config: settings.
      model: from images to logits.
      supervised: the model as it is trained: the same, or with logits of lower levels as further outputs.
      updater: takes the gradients.
      loss_of: (targets, logits) -> a value per example.
      strategy: what distributes the batches.
      task: makes targets of masks, and says what is scored.
      overlaps: of training, of validation.
    """
    overlap, validation_overlap = overlaps
    labels = task.labels
    variables = supervised.trainable_variables
    no_wishes = tf.zeros([0])
    per_replica_batch_size = config.global_batch_size // strategy.num_replicas_in_sync

    def classify(logits):
        return labels.classify(labels.probabilities(logits), THRESHOLD)

    def count(targets, logits):
        return count_pixels(labels, targets, classify(logits), task.classes)

    def differentiate(images, targets):
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(supervised(images, training=True))
            losses = _supervise(loss_of, targets, outputs)
            # The mean over the global batch: gradients are summed over replicas.
            loss = tf.reduce_sum(losses) / config.global_batch_size
            objective = updater.scale_loss(loss)
        return loss, tape.gradient(objective, variables), outputs[0]

    if config.jit_compile:
        differentiate = tf.function(differentiate, jit_compile=True)

    def train_replica(images, masks, step, wishes):
        first = tf.distribute.get_replica_context().replica_id_in_sync_group * per_replica_batch_size
        images, masks = augment(images, masks, config.augment, config.seed, step, first, config.global_batch_size)
        targets, known = task.target(masks)
        loss, gradients, logits = differentiate(images, targets)
        updater.update(gradients, variables)
        overlap.update_state(count(targets, logits), known)
        return tf.concat([[loss], wishes], 0)  # one transfer for all of them

    @tf.function
    def train(batch: dict[str, Any], step, learning_rate, wishes=no_wishes):
        updater.set_learning_rate(learning_rate)
        results = strategy.run(train_replica, (batch["image"], batch["mask"], step, wishes))
        total = strategy.reduce(tf.distribute.ReduceOp.SUM, results, axis=None)
        return total[0], total[1:]

    def evaluate_replica(images, masks, weights, wishes):
        logits = model(images, training=False)
        targets, known = task.target(masks)
        weights *= known
        validation_overlap.update_state(count(targets, logits), weights)
        sums = [tf.reduce_sum(loss_of(targets, logits) * weights), tf.reduce_sum(weights)]
        return tf.concat([sums, wishes], 0)

    @tf.function
    def evaluate(batch: dict[str, Any], wishes=no_wishes):
        results = strategy.run(evaluate_replica, (batch["image"], batch["mask"], batch["weight"], wishes))
        total = strategy.reduce(tf.distribute.ReduceOp.SUM, results, axis=None)
        return total[0], total[1], total[2:]

    @tf.function
    def predict(images):
        return classify(model(images, training=False))

    recompute = make_recompute(model, strategy, lambda batch: batch["image"])
    return Steps(train, evaluate, predict, recompute, overlap, validation_overlap)


def _supervise(loss_of: Callable, masks: tf.Tensor, outputs: list[tf.Tensor]) -> tf.Tensor:
    """Returns the loss of each example, float32 [batch]: of the one output, or the mean over the outputs of all levels.

    An output of a level n times as coarse is compared with every n-th pixel of the mask and weighs 1 / n
    (Isensee et al. 2021, nnU-Net).

    Args:
      loss_of: (masks, logits) -> a value per example.
      masks: [batch, height, width].
      outputs: logits [batch, height / n, width / n, outputs].
    """
    strides = [masks.shape[1] // logits.shape[1] for logits in outputs]
    values = [
        loss_of(masks[:, ::stride, ::stride], logits) / stride for stride, logits in zip(strides, outputs, strict=True)
    ]
    return tf.add_n(values) / sum(1 / stride for stride in strides)
