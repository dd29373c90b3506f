"""Learning rate, and when to stop: functions of the step and of a few counters that checkpoints hold."""

import math

from training.config import TrainConfig
from training.state import TrainState


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int, plateau_scale: float) -> float:
    """Returns the learning rate of a step, counted over the whole run."""
    rate = config.learning_rate * plateau_scale
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return rate * (step + 1) / warmup
    if config.schedule == "cosine":
        # Loshchilov and Hutter 2017, arXiv:1608.03983, one period.
        progress = (step - warmup) / max(1, config.epochs * steps_per_epoch - warmup)
        return rate * 0.5 * (1 + math.cos(math.pi * progress))
    return rate


def end_epoch(config: TrainConfig, state: TrainState, score: float) -> bool:
    """Counts an epoch whose validation score (higher is better) is known; returns whether it is the best so far."""
    better = score > state.best_score
    if better:
        state.best_score, state.best_epoch = score, state.epoch
        state.plateau_wait = 0
    else:
        state.plateau_wait += 1
        if config.schedule == "plateau" and state.plateau_wait >= config.plateau_patience:
            state.plateau_scale *= config.plateau_factor
            state.plateau_wait = 0
    waited = state.epoch - state.best_epoch
    state.epoch, state.step = state.epoch + 1, 0
    state.finished = state.epoch >= config.epochs or (
        config.early_stopping is not None and waited >= config.early_stopping
    )
    return better
