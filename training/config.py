"""Settings of a training run."""

import math
from dataclasses import dataclass, field
from typing import Literal

from model.config import AugmentConfig, ModelConfig, Precision
from model.loss_config import LossConfig
from model.settings import refuse_unread
from records.config import InputConfig
from training.optimizer_config import OptimizerConfig, ScheduleConfig

MAY_CHANGE = frozenset(
    (
        "precision",
        "input.autotune_mib",
        "input.cache_mib",
        "input.cache_file_mib",
        "input.data_service",
        "input.prefetch",
        "input.skip_damaged",
        "input.threads",
    )
)
"""Settings that may be others when a run goes on: how records are read, what to do about damage, and the word for the
precision, of which what it stands for is compared."""


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained."""

    task: Literal["segment", "classify"] = "segment"
    """What the network answers: segment: which pixels belong to which class; classify: whether there is any object in
    an image or crop, as one number."""
    epochs: int = 50
    """Times that every training example is seen, at most."""
    global_batch_size: int = 16
    """Examples per step, on all devices together."""
    seed: int = 0
    """Of initial weights, order, augmentation and dropout."""
    learning_rate: float = 1e-3
    """At its highest."""
    early_stopping: int | None = 15
    """Epochs without a better validation Dice, or F1 of a classifier, before training ends; null: never."""
    checkpoint_minutes: float = 5.0
    """Time between checkpoints; there is one at the end of every epoch too."""
    freeze_epochs: int = 0
    """Epochs at the beginning in which the encoder stays as it is, for one that begins with good weights."""
    precision: Precision = "auto"
    """Of the model's computations; auto chooses by device."""
    deterministic: bool = False
    """Make TensorFlow's kernels deterministic: a resumed run then equals an uninterrupted one bit for bit on a CPU.
    Not with jit_compile."""
    virtual_replicas: int | None = None
    """Split the CPU into so many logical devices, to try out several replicas without GPUs."""
    jit_compile: bool = False
    """Let XLA compile the network's part of a step: fewer, larger kernels on GPUs, after a minute of compiling."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    loss: LossConfig = field(default_factory=LossConfig)
    """What is minimised."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """What is done with gradients."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """The learning rate over the run."""
    input: InputConfig = field(default_factory=InputConfig)
    """Reading of records."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation of training images."""

    @property
    def monitored(self) -> tuple[str, str]:
        """The score of validation that decides which epoch is best, higher is better: (its column in the history, its
        name)."""
        return ("val_f1", "F1") if self.task == "classify" else ("val_dice_per_image", "Dice")

    def __post_init__(self):
        for name in ("epochs", "global_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed: expected 0 to {2**31 - 1}, found {self.seed}")
        if self.early_stopping is not None and self.early_stopping < 1:
            raise ValueError(f"early_stopping: expected at least 1, or null, found {self.early_stopping}")
        if self.virtual_replicas is not None and self.virtual_replicas < 1:
            raise ValueError(f"virtual_replicas: expected at least 1, or null, found {self.virtual_replicas}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate: expected more than 0, found {self.learning_rate}")
        for name in ("checkpoint_minutes", "freeze_epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected at least 0, found {getattr(self, name)}")
        if self.optimizer.average == "swa" and self.optimizer.swa_start > self.epochs:
            raise ValueError(
                f"optimizer.swa_start: expected at most the {self.epochs} epochs, found {self.optimizer.swa_start}"
            )
        self._check_early_stopping()
        if self.deterministic and self.jit_compile:
            raise ValueError("deterministic, jit_compile: choose one; XLA has no deterministic gradient of max pooling")
        if self.task == "classify":
            _check_classifier(self.model, self.loss)

    def _check_early_stopping(self) -> None:
        """Raises ValueError if a run may stop early before everything has begun that it was asked for."""
        begin = {}
        if self.freeze_epochs < self.epochs:  # else the encoder is to stay as it is
            begin["freeze_epochs"] = self.freeze_epochs
        if self.optimizer.average == "swa":
            begin["optimizer.swa_start"] = self.optimizer.swa_start - 1
        for name, epochs in begin.items():
            # The first epoch may be the best.
            if self.early_stopping is not None and self.early_stopping < epochs:
                raise ValueError(
                    f"early_stopping: expected at least {epochs}, or null, as a run may end before {name} otherwise, "
                    f"found {self.early_stopping}"
                )


def _check_classifier(model: ModelConfig, loss: LossConfig) -> None:
    """Raises ValueError if a setting was changed that a classifier has no use for."""
    own = model.is_application  # such an encoder has its own activation and normalisation
    encoder_reads = dict.fromkeys(("decoder", "attention", "deep_supervision", "upsampling"), False) | {
        "filters": model.has_any_depth,
        "activation": not own,
        "norm": not own or (model.norm == "sync_batch" and model.keeps_batch_norm),
        "norm_momentum": not own or model.keeps_batch_norm,
    }
    decoder = "the decoder of --task segment"
    refuse_unread(model, "model", {name: (is_read, decoder) for name, is_read in encoder_reads.items()})
    # Both are about the shape of a mask: of one answer nothing has a boundary, and Lovasz is a plain hinge.
    if shapes := [name for name in ("lovasz", "boundary") if name in loss.terms]:
        raise ValueError(
            f"loss.terms: expected losses of single answers with --task classify, found {shapes[0]}, which is about "
            "masks; choose bce, focal or dice"
        )
    if loss.class_weights == "balanced":
        raise ValueError(
            "loss.class_weights: found balanced, which counts pixels, with --task classify; balance examples with "
            "--input.foreground_share 0.5, or give two numbers: of images without objects, and with"
        )
