"""Settings of a search for settings."""

from dataclasses import dataclass, field
from typing import Literal

from training.config import TrainConfig


@dataclass(frozen=True)
class TuneConfig:
    """How settings are searched for."""

    space: str
    """A YAML file of the settings that are searched, by name: a list of choices, or {low: 1e-4, high: 1e-2, log: true}
    (log and step may be left out)."""
    trials: int = 30
    """Trials of the search in all; more may be asked for later."""
    seed: int = 0
    """Of what is proposed. Every trial trains with train.seed."""
    sampler: Literal["tpe", "random"] = "tpe"
    """tpe: after ten random trials, more often what resembles the best ones; random: by chance alone."""
    pruner: Literal["median", "hyperband", "none"] = "median"
    """Which trials are given up before their last epoch. median: those that were never as good as half of the finished
    ones at the same epoch; hyperband: all but the best third at epochs min_epochs, 3 times it, 9 times it, ..., for
    searches of a hundred trials; none: train all to the end."""
    min_epochs: int = 3
    """Epochs that a trial gets before it may be given up."""
    max_failures: int = 3
    """The search stops when so many trials fail one after the other."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Of the trainer: what all trials have in common."""

    def __post_init__(self):
        for name in ("trials", "min_epochs", "max_failures"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed: expected at least 0, found {self.seed}")
