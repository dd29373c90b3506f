"""Settings of a training run."""

from dataclasses import dataclass, field
from typing import Literal

from model.config import AugmentConfig, ModelConfig, Precision
from records.config import InputConfig

MAY_CHANGE = frozenset(
    f"input.{name}"
    for name in (
        "autotune_mib",
        "cache_mib",
        "cache_file_mib",
        "data_service",
        "prefetch",
        "skip_damaged",
        "threads",
    )
)
"""Settings that may be others when a run goes on: how records are read, and what to do about damage."""


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained."""

    epochs: int = 50
    """Times that every training example is seen, at most."""
    global_batch_size: int = 16
    """Examples per step, on all devices together."""
    seed: int = 0
    """Of initial weights, order, augmentation and dropout."""
    loss: Literal["bce", "dice", "bce_dice"] = "bce_dice"
    """Binary cross-entropy (softmax cross-entropy with more than two exclusive classes), Dice, or their sum."""
    learning_rate: float = 1e-3
    """Of Adam, at its highest."""
    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    """plateau: multiply the learning rate by plateau_factor when validation Dice stops rising; cosine: to 0 at the
    last epoch."""
    warmup_epochs: float = 0.0
    """Epochs in which the learning rate rises linearly from 0."""
    plateau_factor: float = 0.5
    """What the plateau schedule multiplies by."""
    plateau_patience: int = 5
    """Epochs without a better validation Dice before it does."""
    early_stopping: int | None = 15
    """Epochs without a better validation Dice before training ends; null: never."""
    checkpoint_minutes: float = 5.0
    """Time between checkpoints; there is one at the end of every epoch too."""
    precision: Precision = "auto"
    """Of the model's computations; auto chooses by device."""
    deterministic: bool = False
    """Make TensorFlow's kernels deterministic: a resumed run then equals an uninterrupted one bit for bit on a CPU."""
    virtual_replicas: int | None = None
    """Split the CPU into so many logical devices, to try out several replicas without GPUs."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    input: InputConfig = field(default_factory=InputConfig)
    """Reading of records."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation of training images."""

    def __post_init__(self):
        for name in ("epochs", "global_batch_size", "plateau_patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed: expected 0 to {2**31 - 1}, found {self.seed}")
        if self.early_stopping is not None and self.early_stopping < 1:
            raise ValueError(f"early_stopping: expected at least 1, or null, found {self.early_stopping}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate: expected more than 0, found {self.learning_rate}")
        if not 0 < self.plateau_factor < 1:
            raise ValueError(f"plateau_factor: expected a number between 0 and 1, found {self.plateau_factor}")
        if self.warmup_epochs < 0 or self.checkpoint_minutes < 0:
            raise ValueError("warmup_epochs, checkpoint_minutes: expected at least 0")
