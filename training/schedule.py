"""Learning rate, and when to stop: functions of the step and of a few counters that checkpoints hold."""

import math

from training.config import TrainConfig
from training.optimizer_config import ScheduleConfig
from training.state import TrainState


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int, plateau_scale: float) -> float:
    """Returns the learning rate of a step, counted over the whole run from 0.

    A warm-up of w steps rises in a line and is at the full rate in step w - 1, its last. Behind it schedules begin, and
    they reach their end where the step behind the last one would be.
    """
    schedule = config.schedule
    full = config.learning_rate * config.optimizer.rate_scale(config.global_batch_size) * plateau_scale
    warmup = schedule.warmup_epochs * steps_per_epoch
    if step < warmup:
        return full * min(1.0, (step + 1) / warmup)
    behind = step - warmup
    # Beyond 1 where damaged records that are left out have made epochs shorter than what is done of the last one.
    done = min(1.0, behind / max(1, config.epochs * steps_per_epoch - warmup))
    return full * _share(schedule, done, behind / steps_per_epoch)


def _share(schedule: ScheduleConfig, done: float, epochs: float) -> float:
    """Returns the share of the full rate that is due behind the warm-up.

    Args:
      schedule: settings.
      done: 0 to 1, of what follows the warm-up.
      epochs: since the warm-up.
    """
    match schedule.name:
        case "cosine":  # Loshchilov and Hutter 2017, arXiv:1608.03983, one period
            share = _ease(1, schedule.end, done)
        case "polynomial":  # "poly" of Chen et al. 2017, arXiv:1606.00915
            share = schedule.end + (1 - schedule.end) * (1 - done) ** schedule.power
        case "one_cycle" if done < schedule.peak:  # Smith and Topin 2018, arXiv:1708.07120, cosines in place of lines
            share = _ease(schedule.start, 1, done / schedule.peak)
        case "one_cycle":
            share = _ease(1, schedule.end, (done - schedule.peak) / (1 - schedule.peak))
        case "exponential":
            share = schedule.decay_rate**epochs
        case "plateau" | "constant":
            share = 1.0
    return share


def _ease(start: float, end: float, done: float) -> float:
    """Returns a value on the half cosine from `start` (done = 0) to `end` (done = 1)."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))


def end_epoch(config: TrainConfig, state: TrainState, score: float) -> bool:
    """Counts an epoch whose validation score (higher is better) is known; returns whether it is the best so far."""
    better = score > state.best_score
    if better:
        state.best_score, state.best_epoch = score, state.epoch
        state.plateau_wait = 0
    else:
        state.plateau_wait += 1
        if config.schedule.name == "plateau" and state.plateau_wait >= config.schedule.plateau_patience:
            state.plateau_scale *= config.schedule.plateau_factor
            state.plateau_wait = 0
    waited = state.epoch - state.best_epoch
    state.epoch, state.step = state.epoch + 1, 0
    state.finished = state.epoch >= config.epochs or (
        config.early_stopping is not None and waited >= config.early_stopping
    )
    return better
