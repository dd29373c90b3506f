"""The epochs of a run: steps, validation, checkpoints, history."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import tensorflow as tf
from tensorflow import keras

from records.service import tell_of_silence
from training.batch_norm import recompute_statistics, synchronize_statistics
from training.config import TrainConfig
from training.history import describe_epoch, write_history
from training.pictures import FixedExamples
from training.plots import plot_history
from training.preemption import Preempted, Preemption
from training.run_folder import RunFolder
from training.run_input import Progress, RunInput, distribute
from training.schedule import end_epoch, learning_rate
from training.tensorboard import Summaries
from training.trainer import Trainer
from training.workers import Agreement, Wishes, Workers

_SHOW_EVERY = 2.0
"""Seconds between looks at loss and scores within an epoch."""

_STATISTICS_STEPS = 50
"""Batches, at most, from which swa takes the statistics of batch normalisation."""


@dataclass
class Epochs:
    """The epochs of a run, from where its state stands.

    Attributes:
      trainer: what is trained.
      data: what is read.
      run: where it goes.
      config: settings.
      workers: which of those that train together this is.
      preemption: asks to stop.
      progress, tell: as of `train`.
    """

    trainer: Trainer
    data: RunInput
    run: RunFolder
    config: TrainConfig
    workers: Workers
    preemption: Preemption
    progress: Progress
    tell: Callable[[str], None]
    summaries: Summaries = field(init=False)

    def train(self) -> None:
        """Trains until the run has finished."""
        self.preemption.deferred = True
        state, data = self.trainer.state, self.data
        parameters = sum(variable.shape.num_elements() for variable in self.trainer.model.trainable_variables)
        size = self.config.global_batch_size
        self.tell(f"{'model':<10} {parameters:,} parameters, {data.steps} steps of {size} an epoch")
        if state.epoch + state.step and data.num_lost != state.num_lost:
            self.tell(
                f"damaged records left out: {data.num_lost}, {state.num_lost} before; "
                "from here on the order of examples is another"
            )
        state.num_lost = data.num_lost
        # Without damaged records an epoch may have become shorter than what is done of it.
        batches = iter(distribute(self.workers, data.training_batches(state.epoch, min(state.step, data.steps))))
        if self.config.input.data_service is not None:
            batches = tell_of_silence(batches, self.tell)
        validation = distribute(self.workers, data.validation_batches())
        window = data.info.stored_window(self.config.model.window)
        examples = None  # a classifier paints nothing
        if self.config.task == "segment":
            examples = FixedExamples.choose(data.info, data.validation_batches(), window)
        with Summaries(self.run.tensorboard, self.tell) as self.summaries:
            while not state.finished:
                begun = None if state.step else time.monotonic()
                self.trainer.freeze(state.epoch < self.config.freeze_epochs)
                if state.step == 0 and state.epoch == self.config.freeze_epochs > 0:
                    self.trainer.updater.drop_accumulated()
                with self.progress(f"epoch {state.epoch + 1}/{self.config.epochs}", data.steps * size) as report:
                    self._train_epoch(batches, report)
                self._save_trained_epoch()
                row = self._score_epoch(validation, examples)
                better = self._keep(row)
                seconds = begun and time.monotonic() - begun
                self.tell(describe_epoch(self.trainer.task, row, better, self.config.epochs, seconds))
                for line in data.remarks(row["input_wait"]):
                    self.tell(line)
        if state.best_score < 0:
            raise FloatingPointError(
                "validation's loss was finite in no epoch, so there is no model; lower --learning_rate, or train with "
                "--precision float32, into another RUN folder"
            )

    def _train_epoch(self, batches, report: Callable[..., None]) -> None:
        """Runs the epoch's steps from state.step on, with a checkpoint now and then."""
        state, config, steps = self.trainer.state, self.config, self.data.steps
        wishes = Wishes(self.workers, 60 * config.checkpoint_minutes, _SHOW_EVERY)
        if state.step == 0:
            self.trainer.steps.overlap.reset_state()
        pending = None  # the step before: its results are fetched while the device computes the next one
        while state.step < steps:
            start = time.monotonic()
            batch = next(batches)
            state.epoch_wait += time.monotonic() - start
            self.data.raise_if_damaged()
            rate = self._rate(state.step)
            number = tf.constant(state.epoch * steps + state.step, tf.int64)
            asked = wishes.ask(self.preemption.asked, self.data.is_checked)
            results = self.trainer.steps.train(batch, number, tf.constant(rate, tf.float32), asked)
            agreed = self._take_in(*pending) if pending is not None else Agreement()
            if self.workers.count == 1:
                agreed = Agreement.of(asked)  # there is nobody to wait for
            pending = (state.step, rate, *results)
            state.step += 1
            if state.step == steps or agreed.save or agreed.stop:
                agreed |= self._take_in(*pending)
                pending = None
            if state.step == steps:
                self.trainer.updater.end_epoch(self.workers.strategy, state.epoch)
            words = self._describe_epoch(state.step - (pending is not None)) if agreed.show else ""
            state.epoch_seconds += time.monotonic() - start
            if agreed.save:
                self._save()
            report(state.step * config.global_batch_size, words)
            if agreed.stop:
                self._stop(agreed)

    def _save_trained_epoch(self) -> None:
        """Writes a checkpoint behind the epoch's last step: a kill then costs validation alone."""
        self.data.finish_check(self.tell, lambda: self.preemption.asked)  # before anything of the epoch is kept
        if self.workers.any(not self.data.is_checked):
            self._stop(Agreement(stop=True))
        if self.trainer.updater.is_stuck:
            raise FloatingPointError(
                f"gradients overflow in 16 bit at every step (epoch {self.trainer.state.epoch + 1}); train with "
                "--precision float32 or mixed_bfloat16, or lower --learning_rate, into another RUN folder"
            )
        self._save()

    def _take_in(self, step: int, rate: float, loss: tf.Tensor, wishes: tf.Tensor) -> Agreement:
        """Counts a step's loss; returns what the workers agree on behind it."""
        state = self.trainer.state
        value, number = float(loss), state.epoch * self.data.steps + step
        if not math.isfinite(value):
            keys = self.data.batch_keys(state.epoch, step)
            raise FloatingPointError(
                f"the loss of step {number} is {value}; lower --learning_rate, or train with --precision float32, into "
                f"another RUN folder; the step's examples: {', '.join(keys) or 'not known'}"
            )
        state.loss_sum += value
        self.summaries.scalar("step/loss", value, number)
        self.summaries.scalar("step/learning_rate", rate, number)
        return Agreement.of(wishes)

    def _describe_epoch(self, counted: int) -> str:
        """Returns where the epoch stands after so many steps whose loss is known."""
        state = self.trainer.state
        task = self.trainer.task
        scores = task.describe_scores(task.name_scores(self.trainer.steps.overlap.result()))
        waiting = state.epoch_wait / max(state.epoch_seconds, 1e-9)
        return f"loss {state.loss_sum / max(1, counted):.4f}  {scores}  waiting {waiting:.0%}"

    def _score_epoch(self, validation, examples: FixedExamples | None) -> dict[str, float]:
        """Returns the epoch's row of the history; saves the model, or the averages, if it is the best so far."""
        self._check_weights()
        trainer, state, size = self.trainer, self.trainer.state, self.config.global_batch_size
        row = {
            "epoch": state.epoch + 1,
            "learning_rate": self._rate(state.step - 1),
            "loss": state.loss_sum / state.step,
            **trainer.task.name_scores(trainer.steps.overlap.result()),
        }
        with trainer.updater.averaged(self.workers.strategy):
            synchronize_statistics(trainer.model, self.workers.strategy)
            if self.config.optimizer.average == "swa" and trainer.updater.is_averaging:
                seen = self.data.training_batches(state.epoch, 0).take(min(self.data.steps, _STATISTICS_STEPS))
                seen = distribute(self.workers, seen)
                recompute_statistics(trainer.model, self.workers.strategy, seen, lambda batch: batch["image"])
            scores, agreed = self._validate(validation)
            if not agreed.stop:
                if self._judge(scores) > state.best_score:
                    _save_model(trainer.model, self.run)
                pictures = examples and examples.draw(trainer.steps.predict(examples.images).numpy())
        if agreed.stop:
            self._stop(agreed)
        if pictures is not None:
            self.summaries.images("image, truth, prediction", pictures, state.epoch + 1)
        row |= scores
        row["images_per_second"] = state.step * size / state.epoch_seconds
        row["input_wait"] = state.epoch_wait / state.epoch_seconds
        return row

    def _validate(self, validation) -> tuple[dict[str, float], Agreement]:
        """Returns the scores of validation, or of a part of it if the workers agree to stop."""
        steps = self.trainer.steps
        # Of its own: what was counted in training stays until the epoch is kept, so stopping now loses nothing.
        steps.validation_overlap.reset_state()
        loss = weight = 0.0
        wishes, agreed = Wishes(self.workers, math.inf, math.inf), Agreement()
        for batch in validation:
            asked = wishes.ask(self.preemption.asked, self.data.is_checked)
            batch_loss, batch_weight, sums = steps.evaluate(batch, asked)
            loss, weight = loss + float(batch_loss), weight + float(batch_weight)
            agreed = Agreement.of(sums)
            if agreed.stop:
                break
        scores = self.trainer.task.name_scores(steps.validation_overlap.result(), "val_")
        return {"val_loss": loss / max(weight, 1)} | scores, agreed

    def _keep(self, row: dict[str, float]) -> bool:
        """Ends the epoch of this row: history, plots, a checkpoint; returns whether it is the best so far."""
        state = self.trainer.state
        state.loss_sum = state.epoch_seconds = state.epoch_wait = 0.0
        for name, value in row.items():
            self.summaries.scalar(f"epoch/{name}", value, state.epoch + 1)
        state.history.append(row)
        better = end_epoch(self.config, state, self._judge(row))
        if not math.isfinite(row["val_loss"]):
            self.tell(
                f"validation's loss is {row['val_loss']}, so this epoch is no best one; if it stays so, lower "
                "--learning_rate, or train with --precision float32, into another RUN folder"
            )
        write_history(self.run, state.history)
        plot_history(state.history, self.trainer.task, self.run.plots)
        self._save()
        return better

    def _judge(self, scores: dict[str, float]) -> float:
        """Returns what decides which epoch is best. Masks that come of NaN are empty, which may score well."""
        return scores[self.trainer.task.monitored] if math.isfinite(scores["val_loss"]) else -1.0

    def _stop(self, agreed: Agreement) -> None:
        """Raises Preempted, with a checkpoint of where the run stands."""
        state = self.trainer.state
        where = f"stopped as asked ({self.preemption.by}) in epoch {state.epoch + 1} behind step {state.step}"
        what = "before all shards were checked; the same command goes on from the last checkpoint"
        if agreed.checked:
            self._save()
            what = "saved; the same command goes on from there"
        raise Preempted(f"{where}, {what}", self.preemption.exit_code)

    def _rate(self, step: int) -> float:
        """Returns the learning rate of a step of the epoch under way."""
        state, steps = self.trainer.state, self.data.steps
        return learning_rate(self.config, state.epoch * steps + step, steps, state.plateau_scale)

    def _save(self) -> None:
        """Writes a checkpoint."""
        self._check_weights()
        self.summaries.flush()
        self.trainer.checkpoints.save()

    def _check_weights(self) -> None:
        """Raises FloatingPointError if the last step has broken the weights: what is kept must be able to go on."""
        if not all(bool(tf.reduce_all(tf.math.is_finite(each))) for each in self.trainer.model.trainable_variables):
            state = self.trainer.state
            raise FloatingPointError(
                f"weights are no longer finite in epoch {state.epoch + 1} behind step {state.step}; lower "
                "--learning_rate, or train with --precision float32, into another RUN folder"
            )


def _save_model(model: keras.Model, run: RunFolder) -> None:
    temporary = run.path / "model.tmp.keras"
    try:
        model.save(temporary)
        temporary.replace(run.model)
    finally:
        temporary.unlink(missing_ok=True)
