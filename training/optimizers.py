"""Everything behind gradients: loss scaling, accumulation, clipping, the update, lookahead and averages.

Adam, AdamW and SGD are Keras'; LAMB is Addons'. What goes around them is done here, for all of them alike, since it
depends on whether a step counts. Keras' LossScaleOptimizer skips a step silently and still counts it; its `use_ema`
starts at the initial weights and leaves batch normalisation's statistics out; Addons' Lookahead and averages take
Keras' old optimizers only, and count skipped steps and every step of an accumulation.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow import keras

from training.optimizer_config import OptimizerConfig

_FIRST_SCALE, _GROWTH_STEPS = 2.0**15, 2000
"""Of loss scaling: what it starts with, and steps without an overflow after which it doubles (Keras' own numbers)."""


class Updater(tf.Module):
    """Changes a model by gradients. A tf.train.Checkpoint that holds it and the model holds all of its state.

    To be made within the strategy's scope, when the model has its initial weights, be they loaded or not, and
    everything that will ever be trained is trainable.
    """

    def __init__(self, config: OptimizerConfig, model: keras.Model, loss_scaling: bool):
        """Makes all variables, so that a checkpoint can be restored before the first step.

        Args:
          config: settings.
          model: what is trained.
          loss_scaling: scale the loss, as float16 needs it, and skip steps whose gradients overflow.
        """
        super().__init__("updater")
        trainable = model.trainable_variables
        self._config, self._loss_scaling = config, loss_scaling
        self._optimizer = _make_optimizer(config, trainable)
        self._updates = _counter("updates")
        if loss_scaling:
            self._scale = tf.Variable(_FIRST_SCALE, trainable=False, name="loss_scale")
            self._good_steps = _counter("good_steps")
        if config.accumulate > 1:
            self._accumulated = _counter("accumulated")
            self._sums = [_zeros_like(variable) for variable in trainable]
        if config.lookahead:
            self._slow = [_copy_of(variable) for variable in trainable]
        # Those of batch normalisation are among them: statistics of other weights would not fit the averages.
        # (`_model` must not be tracked: the checkpoint holds the model itself.)
        self._averaged = _untracked([variable for variable in model.variables if variable.dtype.is_floating])
        self._kept = _untracked(model.variables)
        self._position = _untracked({variable.ref(): index for index, variable in enumerate(trainable)})
        if config.average != "none":
            self._averages = [_copy_of(variable) for variable in self._averaged()]
            self._num_averaged = _counter("num_averaged")

    def set_learning_rate(self, rate: tf.Tensor) -> None:
        """Sets the rate of the updates to come; called outside of `strategy.run`."""
        self._optimizer.learning_rate.assign(rate)

    def scale_loss(self, loss: tf.Tensor) -> tf.Tensor:
        """Returns what gradients are to be taken of, for `update`."""
        return loss * tf.cast(self._scale, loss.dtype) if self._loss_scaling else loss

    def update(self, gradients: Sequence[tf.Tensor], variables: Sequence[tf.Variable]) -> None:
        """Takes one step by this replica's gradients; called within `strategy.run`, on all replicas.

        Not within a function that XLA compiles where there are several replicas.

        Args:
          gradients: of `scale_loss` of the replica's share of the loss, so that their sum over replicas counts.
          variables: what they belong to: the model's trainable variables, or some of them.
        """
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))
        finite = tf.constant(True)
        if self._loss_scaling:
            gradients = [gradient / tf.cast(self._scale, gradient.dtype) for gradient in gradients]
            finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
        variables = list(variables)

        # Branches on several replicas are only possible outside of them.
        def merged(strategy, gradients, finite):
            self._merged_update(strategy, gradients, variables, strategy.experimental_local_results(finite)[0])

        context.merge_call(merged, args=(gradients, finite))

    def _merged_update(self, strategy, gradients, variables, finite) -> None:
        if not self._loss_scaling:
            self._accumulate(strategy, gradients, variables)
            return
        tf.cond(finite, lambda: _nothing(self._accumulate(strategy, gradients, variables)), _nothing)
        grown = finite & (self._good_steps + 1 >= _GROWTH_STEPS)
        factor = tf.where(finite, tf.where(grown, 2.0, 1.0), 0.5)
        self._scale.assign(tf.clip_by_value(self._scale * factor, 1.0, 2.0**100))
        self._good_steps.assign(tf.where(finite & ~grown, self._good_steps + 1, 0))

    def _accumulate(self, strategy, gradients, variables) -> None:
        if self._config.accumulate == 1:
            self._apply(strategy, variables, gradients)
            return
        sums = [self._sums[self._position()[variable.ref()]] for variable in variables]
        for total, gradient in zip(sums, gradients, strict=True):
            strategy.extended.update(total, lambda total, gradient: total.assign_add(gradient), args=(gradient,))
        self._accumulated.assign_add(1)

        def apply():
            self._apply(strategy, variables, None)
            for total in self._sums:
                strategy.extended.update(total, lambda total: total.assign(tf.zeros_like(total)))
            self._accumulated.assign(0)
            return _nothing()

        tf.cond(self._accumulated >= self._config.accumulate, apply, _nothing)

    def _apply(self, strategy, variables, gradients) -> None:
        """Updates the variables by gradients; None: by the means of those accumulated."""

        def apply_replica(gradients):
            if gradients is None:
                sums = [self._sums[self._position()[variable.ref()]] for variable in variables]
                gradients = [total / self._config.accumulate for total in sums]
            if self._config.clip_norm is not None:
                gradients, _ = tf.clip_by_global_norm(gradients, self._config.clip_norm)
            pairs = zip(gradients, variables, strict=True)
            self._optimizer.apply_gradients(pairs, experimental_aggregate_gradients=False)

        strategy.extended.call_for_each_replica(apply_replica, args=(gradients,))
        self._updates.assign_add(1)
        if self._config.lookahead:
            due = self._updates % self._config.lookahead_steps == 0
            tf.cond(due, lambda: self._step_slowly(strategy, variables), _nothing)
        if self._config.average == "ema":
            before = tf.cast(self._num_averaged, tf.float32)
            self._num_averaged.assign_add(1)
            decay = tf.minimum(self._config.ema_decay, before / (10 + before))
            self._average(strategy, 1 - decay)

    def _step_slowly(self, strategy, variables) -> tf.Tensor:
        """Zhang et al. 2019, arXiv:1907.08610."""
        for variable in variables:
            slow = self._slow[self._position()[variable.ref()]]
            strategy.extended.update(
                slow, lambda slow, fast: slow.assign_add(self._config.lookahead_rate * (fast - slow)), args=(variable,)
            )
            strategy.extended.update(variable, lambda fast, slow: fast.assign(slow), args=(slow,))
        return _nothing()

    def _average(self, strategy, share) -> None:
        """Moves the averages by this share towards the model."""
        for average, variable in zip(self._averages, self._averaged(), strict=True):
            strategy.extended.update(
                average,
                lambda average, new: average.assign_add(tf.cast(share, new.dtype) * (new - average)),
                args=(variable,),
            )

    def drop_accumulated(self) -> None:
        """Begins a new accumulation: to be called when other variables are trained from here on."""
        if self._config.accumulate > 1:
            for total in self._sums:
                total.assign(tf.zeros_like(total))
            self._accumulated.assign(0)

    def end_epoch(self, strategy: tf.distribute.Strategy, epoch: int) -> None:
        """Counts an epoch, from 0, that has just been trained: swa averages the weights at its end.

        Izmailov et al. 2018, arXiv:1803.05407.
        """
        if self._config.average == "swa" and epoch + 1 >= self._config.swa_start:
            self._num_averaged.assign_add(1)
            with strategy.scope():
                self._average(strategy, 1 / self._num_averaged.numpy())

    @property
    def is_stuck(self) -> bool:
        """Whether gradients overflow even where the loss is not scaled any more, so that no step counts."""
        return self._loss_scaling and self._scale.numpy() == 1 and self._good_steps.numpy() == 0

    @property
    def is_averaging(self) -> bool:
        """Whether there are averages to validate and save."""
        return self._config.average != "none" and self._num_averaged.numpy() > 0

    @contextlib.contextmanager
    def averaged(self, strategy: tf.distribute.Strategy) -> Iterator[None]:
        """Lets the model have the averages, if there are any; within, no checkpoint must be written.

        On leaving, every variable of the model is what it was, bit for bit.
        """
        if not self.is_averaging:
            yield
            return
        parts = [part for variable in self._kept() for part in strategy.experimental_local_results(variable)]
        raw = [part.numpy() for part in parts]
        try:
            for average, variable in zip(self._averages, self._averaged(), strict=True):
                targets = strategy.experimental_local_results(variable)
                for target, value in zip(targets, strategy.experimental_local_results(average), strict=True):
                    target.assign(value)
            yield
        finally:
            for part, value in zip(parts, raw, strict=True):
                part.assign(value)


def _make_optimizer(config: OptimizerConfig, variables: list[tf.Variable]):
    """Returns an optimizer that has all its variables; its learning rate is set before every step."""
    undecayed = [variable for variable in variables if len(variable.shape) <= 1]  # biases, scales, offsets
    if config.name == "lamb":
        from model.addons import make_lamb

        return make_lamb(config.decay, variables, undecayed)
    # Where there is a GPU Keras would let XLA compile the update by itself, whatever --jit_compile says.
    how = {"weight_decay": config.decay or None, "jit_compile": False}
    if config.name == "sgd":
        optimizer = keras.optimizers.SGD(0.0, config.momentum, config.nesterov, **how)
    else:
        optimizer = keras.optimizers.Adam(0.0, **how)  # with decay it is Keras' AdamW
    if undecayed:
        optimizer.exclude_from_weight_decay(undecayed)
    optimizer.build(variables)
    return optimizer


def _counter(name: str) -> tf.Variable:
    return tf.Variable(0, dtype=tf.int64, trainable=False, name=name)


def _zeros_like(variable: tf.Variable) -> tf.Variable:
    return tf.Variable(tf.zeros(variable.shape, variable.dtype), trainable=False)


def _copy_of(variable: tf.Variable) -> tf.Variable:
    """Returns a new variable of equal value, on every replica as the other one is."""
    return tf.Variable(
        tf.convert_to_tensor(variable),
        trainable=False,
        synchronization=variable.synchronization,
        aggregation=variable.aggregation,
    )


def _untracked(value: Any) -> Callable[[], Any]:
    """Returns a function of no arguments that gives the value: checkpoints must not hold it a second time."""
    return lambda: value


def _nothing(*_) -> tf.Tensor:
    return tf.constant(0)
