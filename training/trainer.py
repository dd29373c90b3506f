"""What a run trains, built from its settings."""

from typing import NamedTuple

import tensorflow as tf
from tensorflow import keras

from model.labels import Labels
from model.unet import build_unet
from records.info import RecordsInfo
from training.checkpoints import Checkpoints
from training.config import TrainConfig
from training.run_folder import RunFolder
from training.state import TrainState
from training.step import Steps, make_optimizer, make_steps


class Trainer(NamedTuple):
    """What a run trains, and what saves it."""

    model: keras.Model
    compiled: Steps
    state: TrainState
    checkpoints: Checkpoints


def build_trainer(run: RunFolder, config: TrainConfig, info: RecordsInfo, strategy: tf.distribute.Strategy) -> Trainer:
    """Returns a trainer at the start of its run, all of its variables made within the strategy's scope."""
    labels = Labels(len(info.classes), info.overlapping)
    window = info.stored_window(config.model.window)
    with strategy.scope():
        model = build_unet(config.model, info.channels, labels, info.mean, info.std, config.seed, window)
        optimizer = make_optimizer(config)
        optimizer.build(model.trainable_variables)  # else a checkpoint restores its slots only after the first step
        compiled = make_steps(config, model, optimizer, strategy, labels, info.scored_classes)
    state = TrainState()
    # The training metric belongs to the checkpoint: its sums run over a whole epoch.
    checkpoints = Checkpoints(run.checkpoints, model=model, optimizer=optimizer, overlap=compiled.overlap, state=state)
    return Trainer(model, compiled, state, checkpoints)
