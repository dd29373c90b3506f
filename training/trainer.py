"""What a run trains, built from its settings."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tensorflow import keras

from model.blocks import check_norm
from model.classifier import build_classifier
from model.encoders import set_encoder_trainable
from model.labels import Labels
from model.losses import balanced_weights, make_loss
from model.metrics import Overlap
from model.unet import build_unet, supervised_model
from model.weights import load_weights
from records.info import RecordsInfo, training_splits
from training.checkpoints import Checkpoints
from training.config import TrainConfig
from training.optimizers import Updater
from training.run_folder import RunFolder
from training.state import TrainState
from training.step import Steps, make_steps
from training.task import Task, make_task


@dataclass
class Trainer:
    """What a run trains, and what saves it.

    Attributes:
      task: what the model answers.
      model: from images to logits; what is saved and served.
      updater: changes it.
      steps: compiled.
      state: where the run stands.
      checkpoints: hold all of it.
    """

    task: Task
    model: keras.Model
    updater: Updater
    steps: Steps
    state: TrainState
    checkpoints: Checkpoints
    _make_steps: Callable[[], Steps]
    _frozen: bool = False

    def digest(self) -> int:
        """Returns a number that tells this device's weights from others."""
        checksum = 0
        for variable in self.model.trainable_variables:
            checksum = zlib.crc32(variable.numpy(), checksum)
        return checksum

    def freeze(self, frozen: bool) -> None:
        """Lets training change the encoder, or not."""
        if frozen != self._frozen:
            set_encoder_trainable(self.model, not frozen)
            self.steps, self._frozen = self._make_steps(), frozen


def build_trainer(
    run: RunFolder,
    config: TrainConfig,
    info: RecordsInfo,
    strategy: tf.distribute.Strategy,
    tell: Callable[[str], None],
    own: RunFolder | None = None,
) -> Trainer:
    """Returns a trainer at the start of its run, all of its variables made within the strategy's scope.

    Args:
      run: where its checkpoints are; where there are some, weights that config.model.weights names are not read again.
      config: settings.
      info: of the records.
      strategy: devices.
      tell: shows a line to the user.
      own: where this process writes its checkpoints, if not there.

    Raises:
      ValueError: settings, records and devices do not fit together.
    """
    check_norm(config.model, strategy)
    if config.jit_compile and strategy.num_replicas_in_sync > 1:
        raise ValueError(
            f"jit_compile: expected one device, found {strategy.num_replicas_in_sync}: a function that XLA compiles "
            "does not find the variables of the others; leave it out"
        )
    task = make_task(config, info)
    labels = task.labels
    loss_of = make_loss(config.loss, labels, _class_weights(config, info, labels))
    window = info.stored_window(config.model.window)
    with strategy.scope():
        if config.task == "classify":
            model = build_classifier(config.model, info.channels, info.mean, info.std, config.seed, window)
        else:
            model = build_unet(config.model, info.channels, labels, info.mean, info.std, config.seed, window)
        if tf.train.latest_checkpoint(str(run.checkpoints)) is None and (words := load_weights(model, config.model)):
            tell(f"{'weights':<10} {words}")
        supervised = supervised_model(model, config.model, labels, config.seed)
        updater = Updater(
            config.optimizer, supervised, keras.mixed_precision.global_policy().compute_dtype == "float16"
        )
        overlaps = Overlap(len(task.classes)), Overlap(len(task.classes))

    def steps() -> Steps:
        with strategy.scope():
            return make_steps(config, model, supervised, updater, loss_of, strategy, task, overlaps)

    state = TrainState()
    # The training metric belongs to the checkpoint: its sums run over a whole epoch.
    parts = {"model": supervised, "updater": updater, "overlap": overlaps[0], "state": state}
    checkpoints = Checkpoints((own or run).checkpoints, run.checkpoints, **parts)
    return Trainer(task, model, updater, steps(), state, checkpoints, steps)


def _class_weights(config: TrainConfig, info: RecordsInfo, labels: Labels) -> list[float] | None:
    """Returns the numbers that "balanced" stands for, None where it is not chosen."""
    if config.loss.class_weights != "balanced":
        return None
    splits, _ = training_splits(info, config.input.fold)
    pixels = np.sum([info.splits[name].class_pixels for name in splits], axis=0)
    return balanced_weights(pixels.tolist(), labels)
