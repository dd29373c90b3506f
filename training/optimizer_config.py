"""Settings of what is done with gradients, and of the learning rate over a run."""

import math
from dataclasses import dataclass
from typing import Literal

from model.settings import refuse_unread


@dataclass(frozen=True)
class OptimizerConfig:
    """How gradients change the weights."""

    name: Literal["adam", "adamw", "sgd", "lamb"] = "adam"
    """adam; adamw: with decoupled weight decay; sgd: with momentum; lamb: Adam with a step as large as each layer's
    weights allow, for global batches of thousands."""
    weight_decay: float | None = None
    """Share of a weight that is taken off it at every update, times the learning rate; never of biases and of the
    parameters of normalisation. null: 0.01 for adamw and lamb, 0 for sgd; adam has none."""
    momentum: float = 0.9
    """Of sgd."""
    nesterov: bool = False
    """Nesterov's momentum in sgd."""
    lookahead: bool = False
    """Let slow weights follow those that the optimizer changes."""
    lookahead_steps: int = 6
    """Updates between two steps of the slow weights."""
    lookahead_rate: float = 0.5
    """Share of the way to the optimizer's weights that such a step takes."""
    average: Literal["none", "ema", "swa"] = "none"
    """Averages of the weights that are validated and saved: ema: exponential, over updates; swa: of the weights at the
    ends of epochs."""
    ema_decay: float = 0.999
    """Share of the average that an update keeps; after n updates n / (n + 10) where that is less."""
    swa_start: int = 10
    """The first epoch, from 1, at whose end weights enter the swa average."""
    clip_norm: float | None = None
    """Scale gradients down where their norm, over all weights together, is larger; null: never."""
    accumulate: int = 1
    """Steps whose gradients are averaged into one update: a batch this many times as large, in the memory of one."""
    scale_rate: Literal["none", "linear", "sqrt"] = "none"
    """Multiply the learning rate by the batch size over reference_batch_size, or by its root; the batch is
    global_batch_size times accumulate."""
    reference_batch_size: int = 16
    """The batch size that learning_rate is meant for, with scale_rate."""

    def __post_init__(self):
        for name in ("lookahead_steps", "swa_start", "accumulate", "reference_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"optimizer.{name}: expected at least 1, found {getattr(self, name)}")
        if self.weight_decay is not None and not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"optimizer.weight_decay: expected at least 0, or null, found {self.weight_decay}")
        if self.name == "adam" and self.weight_decay:
            raise ValueError(f"optimizer.weight_decay: adam has none, found {self.weight_decay}; choose adamw")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"optimizer.momentum: expected 0 to less than 1, found {self.momentum}")
        if self.nesterov and (self.name != "sgd" or not self.momentum):
            raise ValueError("optimizer.nesterov: expected sgd with momentum; choose it, or leave this out")
        if not 0 < self.lookahead_rate <= 1:
            raise ValueError(f"optimizer.lookahead_rate: expected more than 0, at most 1, found {self.lookahead_rate}")
        if not 0 < self.ema_decay < 1:
            raise ValueError(f"optimizer.ema_decay: expected a number between 0 and 1, found {self.ema_decay}")
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise ValueError(f"optimizer.clip_norm: expected more than 0, or null, found {self.clip_norm}")
        readers = {
            "momentum": (self.name == "sgd", "--optimizer.name sgd"),
            "lookahead_steps": (self.lookahead, "--optimizer.lookahead"),
            "lookahead_rate": (self.lookahead, "--optimizer.lookahead"),
            "ema_decay": (self.average == "ema", "--optimizer.average ema"),
            "swa_start": (self.average == "swa", "--optimizer.average swa"),
            "reference_batch_size": (self.scale_rate != "none", "--optimizer.scale_rate linear or sqrt"),
        }
        refuse_unread(self, "optimizer", readers)

    @property
    def decay(self) -> float:
        """Weight decay, resolved."""
        if self.weight_decay is not None:
            return self.weight_decay
        return 0.01 if self.name in ("adamw", "lamb") else 0.0

    def rate_scale(self, global_batch_size: int) -> float:
        """Returns what the learning rate is multiplied by, for the batch size.

        linear: Goyal et al. 2017, arXiv:1706.02677; sqrt: for adaptive optimizers, You et al. 2020, arXiv:1904.00962.
        """
        ratio = global_batch_size * self.accumulate / self.reference_batch_size
        return {"none": 1.0, "linear": ratio, "sqrt": ratio**0.5}[self.scale_rate]


# Which schedules read a setting.
_READ_BY = {
    "plateau_factor": ("plateau",),
    "plateau_patience": ("plateau",),
    "power": ("polynomial",),
    "decay_rate": ("exponential",),
    "start": ("one_cycle",),
    "peak": ("one_cycle",),
    "end": ("cosine", "polynomial", "one_cycle"),
}


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over a run."""

    name: Literal["plateau", "cosine", "polynomial", "one_cycle", "exponential", "constant"] = "plateau"
    """plateau: multiply the rate by plateau_factor when the score of validation stops rising; cosine, polynomial: fall
    to `end` at the last epoch; one_cycle: rise from `start`, then fall to `end`; exponential: fall by decay_rate an
    epoch."""
    warmup_epochs: float = 0.0
    """Epochs in which the rate rises linearly from 0, before the schedule begins; not with one_cycle."""
    plateau_factor: float = 0.5
    """What the plateau schedule multiplies by."""
    plateau_patience: int = 5
    """Epochs without a better score of validation before it does."""
    power: float = 0.9
    """Of polynomial: 1 falls in a line; less stays high for longer."""
    decay_rate: float = 0.95
    """What exponential multiplies by in the course of every epoch."""
    start: float = 0.04
    """Share of the full rate at which one_cycle starts."""
    peak: float = 0.3
    """Share of the run at which one_cycle has its full rate."""
    end: float = 0.0
    """Share of the full rate at which cosine, polynomial and one_cycle end."""

    def __post_init__(self):
        if not 0 <= self.warmup_epochs < math.inf:
            raise ValueError(f"schedule.warmup_epochs: expected at least 0, found {self.warmup_epochs}")
        if self.warmup_epochs and self.name == "one_cycle":
            raise ValueError(f"schedule.warmup_epochs: expected 0 with one_cycle, found {self.warmup_epochs}")
        for name in ("plateau_factor", "peak"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"schedule.{name}: expected a number between 0 and 1, found {getattr(self, name)}")
        if self.plateau_patience < 1:
            raise ValueError(f"schedule.plateau_patience: expected at least 1, found {self.plateau_patience}")
        if not 0 < self.power < math.inf:
            raise ValueError(f"schedule.power: expected more than 0, found {self.power}")
        for name in ("decay_rate", "start"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"schedule.{name}: expected more than 0, at most 1, found {getattr(self, name)}")
        if not 0 <= self.end < 1:
            raise ValueError(f"schedule.end: expected 0 to less than 1, found {self.end}")
        readers = {
            name: (self.name in names, f"--schedule.name {' or '.join(names)}") for name, names in _READ_BY.items()
        }
        refuse_unread(self, "schedule", readers)
