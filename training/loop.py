"""The loop: epochs of steps, validation, checkpoints, history; goes on where an earlier run stopped."""

import csv
import dataclasses
import io
import json
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
from tensorflow import keras

from model.labels import Labels
from model.unet import build_unet
from records.cache import drop_cache
from records.info import RecordsInfo
from records.input_pipeline import check_sizes, steps_per_epoch, training_splits
from records.mixing import check_weights
from records.service import tell_of_silence
from training.config import MAY_CHANGE, TrainConfig
from training.devices import check_batch_size
from training.plots import plot_history
from training.run_folder import RunFolder, describe_records, read_config, write_config, write_text
from training.run_input import Progress, RunInput, distribute, open_input
from training.schedule import end_epoch, learning_rate
from training.state import TrainState
from training.step import Steps, make_optimizer, make_steps

MONITORED = "val_dice_per_image"
"""What decides which epoch is best; higher is better."""


def train(
    records: str,
    info: RecordsInfo,
    run: RunFolder,
    config: TrainConfig,
    strategy: tf.distribute.Strategy,
    progress: Progress,
    tell: Callable[[str], None],
) -> TrainState:
    """Trains a model into a RUN folder; returns the final state.

    Args:
      records: folder of the records.
      info: of the records.
      run: where everything goes.
      config: settings.
      strategy: devices.
      progress: shows how far an epoch is.
      tell: shows a line to the user.

    Raises:
      ValueError: records, settings and RUN folder do not fit together.
      FloatingPointError: the loss is no longer finite.
    """
    check_batch_size(config.global_batch_size, strategy.num_replicas_in_sync)
    if not info.labeled:
        raise ValueError(f"{records}: expected records with masks, found unlabelled ones")
    splits, validation_split = training_splits(info, config.input.fold)
    training = info.shard_files(records, splits)
    steps_per_epoch(training, config.global_batch_size)
    check_image_size(info, config)
    info.shards(validation_split)
    check_weights(records, info, config.input)
    _claim(run, config, info)
    trainer = _build(run, config, info, strategy)
    if restored := _restore(trainer.checkpoint, trainer.manager, tell):
        tell(f"going on from epoch {trainer.state.epoch + 1}, step {trainer.state.step} ({restored})")
    if trainer.state.finished:
        drop_cache(run.cache)  # left if it was killed at its very end
        tell("this run has finished; a longer one needs another RUN folder")
        return trainer.state
    with open_input(records, info, run, config, progress, tell) as data:
        _run_epochs(trainer, data, run, config, strategy, progress, tell)
    return trainer.state


class _Trainer(NamedTuple):
    """What a run trains, and what saves it."""

    model: keras.Model
    compiled: Steps
    state: TrainState
    checkpoint: tf.train.Checkpoint
    manager: tf.train.CheckpointManager


def _build(run: RunFolder, config: TrainConfig, info: RecordsInfo, strategy: tf.distribute.Strategy) -> _Trainer:
    labels = Labels(len(info.classes), info.overlapping)
    window = info.stored_window(config.model.window)
    with strategy.scope():
        model = build_unet(config.model, info.channels, labels, info.mean, info.std, config.seed, window)
        optimizer = make_optimizer(config)
        optimizer.build(model.trainable_variables)  # else a checkpoint restores its slots only after the first step
        compiled = make_steps(config, model, optimizer, strategy, labels, info.scored_classes)
    state = TrainState()
    # The training metric belongs to the checkpoint: its sums run over a whole epoch.
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, overlap=compiled.overlap, state=state)
    manager = tf.train.CheckpointManager(checkpoint, str(run.checkpoints), max_to_keep=2)
    return _Trainer(model, compiled, state, checkpoint, manager)


def _run_epochs(
    trainer: _Trainer, data: RunInput, run: RunFolder, config: TrainConfig, strategy, progress: Progress, tell
) -> None:
    """Trains, from where the state stands, until the run has finished."""
    model, compiled, state, _, manager = trainer
    steps = data.steps
    parameters = sum(variable.shape.num_elements() for variable in model.trainable_variables)
    tell(f"{'model':<10} {parameters:,} parameters, {steps} steps of {config.global_batch_size} an epoch")
    if state.epoch + state.step and data.num_lost != state.num_lost:
        tell(
            f"damaged records left out: {data.num_lost}, {state.num_lost} before; "
            "from here on the order of examples is another"
        )
    state.num_lost = data.num_lost
    # Without damaged records an epoch may have become shorter than what is done of it.
    batches = iter(distribute(strategy, data.training_batches(state.epoch, min(state.step, steps))))
    if config.input.data_service is not None:
        batches = tell_of_silence(batches, tell)
    validation = distribute(strategy, data.validation_batches())
    writer = tf.summary.create_file_writer(str(run.tensorboard))
    with writer.as_default():
        while not state.finished:
            label = f"epoch {state.epoch + 1}/{config.epochs}"
            with progress(label, steps * config.global_batch_size) as report:
                _train_epoch(batches, compiled, config, state, data, manager, report)
            data.finish_check(tell)  # before anything of the epoch is kept
            row = _finish_epoch(validation, compiled, config, state, steps)
            for name, value in row.items():
                tf.summary.scalar(f"epoch/{name}", value, step=state.epoch + 1)
            state.history.append(row)
            better = end_epoch(config, state, row[MONITORED])
            if better:
                _save_model(model, run)
            write_history(run, state.history)
            plot_history(state.history, run.plots)
            manager.save()
            tell(_describe(row, better, config.epochs))
            for line in data.remarks(row["input_wait"]):
                tell(line)


def check_image_size(info: RecordsInfo, config: TrainConfig) -> None:
    """Raises ValueError unless the network can halve the images, or crops of them, as often as it wants to."""
    check_sizes(info, config.input)
    if config.input.crop and info.height and config.input.crop > max(info.height, info.width):
        raise ValueError(
            f"input.crop: expected at most the images' {info.height}x{info.width}, found {config.input.crop}; "
            "leave it out"
        )
    multiple = 2**config.model.depth
    height, width = (config.input.crop, config.input.crop) if config.input.crop else (info.height, info.width)
    if height % multiple or width % multiple:
        advised = -(-max(height, width) // multiple) * multiple
        remedy = f"choose --input.crop {advised}" if config.input.crop else f"preprocess with --size {advised}"
        raise ValueError(
            f"expected images whose height and width are multiples of {multiple} (--model.depth {config.model.depth}), "
            f"found {height}x{width}; {remedy}, or choose a smaller depth"
        )


def write_history(run: RunFolder, history: list[dict[str, float]]) -> None:
    """Writes history.csv, a row per epoch."""
    text = io.StringIO()
    table = csv.DictWriter(text, history[0])
    table.writeheader()
    table.writerows(history)
    write_text(run.history, text.getvalue())


def _claim(run: RunFolder, config: TrainConfig, info: RecordsInfo) -> None:
    """Takes a RUN folder that is new, or holds this very run; refuses any other."""
    if run.config.is_file():
        found = read_config(run)
        wanted = {"train": json.loads(json.dumps(dataclasses.asdict(config))), "records": describe_records(info)}
        if found["records"]["fingerprint"] != info.fingerprint:
            raise ValueError(
                f"{run.path}: holds a run on other records ({found['records']['name']}); choose another RUN folder"
            )
        if changes := _differences(found["train"], wanted["train"]):
            raise ValueError(
                f"{run.path}: holds a run with other settings ({', '.join(changes)}); choose another RUN folder, "
                "or repeat its settings to go on with it"
            )
    elif run.path.exists() and any(run.path.iterdir()):
        raise ValueError(f"{run.path}: expected a new or empty folder, or one of train.py; it holds other files")
    else:
        write_config(run, config, info)


def _restore(checkpoint: tf.train.Checkpoint, manager: tf.train.CheckpointManager, tell) -> str | None:
    """Restores the newest checkpoint that is sound; returns its path, or None if there is none yet.

    Raises:
      ValueError: there are checkpoints, but all are damaged.
    """
    for path in reversed(manager.checkpoints):
        try:
            checkpoint.restore(path)
            return path
        except (IndexError, tf.errors.OpError) as error:
            tell(f"{path} is damaged ({str(error).splitlines()[0]}); trying the one before")
    if manager.checkpoints:
        raise ValueError(f"{manager.directory}: expected a checkpoint that can be read; train into another RUN folder")
    return None


def _differences(found: dict, wanted: dict, prefix: str = "") -> list[str]:
    changes = []
    for name, value in wanted.items():
        if isinstance(value, dict):
            changes += _differences(found.get(name, {}), value, f"{prefix}{name}.")
        elif found.get(name) != value and f"{prefix}{name}" not in MAY_CHANGE:
            changes.append(f"{prefix}{name}: {found.get(name)} there, {value} here")
    return changes


def _train_epoch(
    batches, compiled: Steps, config: TrainConfig, state: TrainState, data: RunInput, manager, report
) -> None:
    """Runs the epoch's steps from state.step on, with a checkpoint now and then."""
    saved, steps = time.monotonic(), data.steps
    if state.step == 0:
        compiled.overlap.reset_state()
    pending = None  # the loss of the step before: fetched while the device computes the next one
    while state.step < steps:
        start = time.monotonic()
        batch = next(batches)
        state.epoch_wait += time.monotonic() - start
        data.raise_if_damaged()
        step = state.epoch * steps + state.step
        rate = learning_rate(config, state, steps)
        loss = compiled.train(batch, tf.constant(step, tf.int64), tf.constant(rate, tf.float32))
        if pending is not None:
            _count_loss(state, *pending)
        pending = (step, loss, rate)
        state.step += 1
        last = state.step == steps
        # Not before the check of the shards is done: what was learnt of damaged ones must not be kept.
        save = time.monotonic() - saved >= 60 * config.checkpoint_minutes and not last and data.is_checked
        if save or last:
            _count_loss(state, *pending)
            pending = None
        state.epoch_seconds += time.monotonic() - start
        if save:
            tf.summary.flush()
            manager.save()
            saved = time.monotonic()
        report(state.step * config.global_batch_size)


def _count_loss(state: TrainState, step: int, loss: tf.Tensor, rate: float) -> None:
    value = float(loss)
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the loss of step {step} is {value}; lower --learning_rate, or train with --precision float32"
        )
    state.loss_sum += value
    tf.summary.scalar("step/loss", value, step=step)
    tf.summary.scalar("step/learning_rate", rate, step=step)


def _finish_epoch(validation, compiled: Steps, config: TrainConfig, state: TrainState, steps: int) -> dict[str, float]:
    """Validates; returns the epoch's row of the history and clears the epoch's sums."""
    state.step -= 1
    rate = learning_rate(config, state, steps)  # of the epoch's last step
    state.step += 1
    row = {
        "epoch": state.epoch + 1,
        "learning_rate": rate,
        "loss": state.loss_sum / state.step,
        **{name: float(value) for name, value in compiled.overlap.result().items()},
    }
    compiled.overlap.reset_state()
    loss = weight = 0.0
    for batch in validation:
        batch_loss, batch_weight = compiled.evaluate(batch)
        loss, weight = loss + float(batch_loss), weight + float(batch_weight)
    row["val_loss"] = loss / weight
    row |= {f"val_{name}": float(value) for name, value in compiled.overlap.result().items()}
    row["images_per_second"] = state.step * config.global_batch_size / state.epoch_seconds
    row["input_wait"] = state.epoch_wait / state.epoch_seconds
    state.loss_sum = state.epoch_seconds = state.epoch_wait = 0.0
    return row


def _save_model(model: keras.Model, run: RunFolder) -> None:
    temporary = run.path / "model.tmp.keras"
    model.save(temporary)
    temporary.replace(run.model)


def _describe(row: dict[str, float], better: bool, epochs: int) -> str:
    return (
        f"{row['epoch']:>4}/{epochs}  loss {row['loss']:.4f}  dice {row['dice_per_image']:.4f}  |  "
        f"val loss {row['val_loss']:.4f}  dice {row['val_dice_per_image']:.4f}  iou {row['val_iou_per_image']:.4f}  |  "
        f"lr {row['learning_rate']:.2e}  {row['images_per_second']:.1f} images/s  "
        f"waiting for input {row['input_wait']:.0%}{'  best' if better else ''}"
    )
