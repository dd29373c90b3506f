"""python -m training.finder RECORDS: which learning rate?

The range test of Smith 2015, arXiv:1506.01186: train with a rate that grows exponentially from step to step, and look
at the loss. It falls while rates are useful and rises when they are too large. Suggested is a tenth of the rate at
which the loss is least: there it still falls fast, and noise does not throw it out.
"""

import math
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cli
from training.config import TrainConfig

_BACK = 10
"""The suggestion is the best rate divided by this."""

_RECENT, _DIVERGED = 5, 4
"""A test ends when the mean of so many recent losses is so many times the least such mean."""


@dataclass(frozen=True)
class FinderConfig:
    """How the learning rate is looked for."""

    lowest: float = 1e-7
    """The first learning rate."""
    highest: float = 10.0
    """The last one, if the loss has not risen before."""
    updates: int = 100
    """Rates that are tried, an update of the weights each."""
    plot: str = "learning-rate.png"
    """Where the picture goes."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Of the trainer; its learning rate and schedule do not matter."""

    def __post_init__(self):
        if not 0 < self.lowest < self.highest < math.inf:
            raise ValueError(f"lowest, highest: expected 0 < lowest < highest, found {self.lowest} and {self.highest}")
        if self.updates < 2 * _RECENT:
            raise ValueError(f"updates: expected at least {2 * _RECENT}, found {self.updates}")


class Found(NamedTuple):
    """What a test gave: rates, the loss before each one's update, the losses smoothed, the suggested rate, remarks."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggested: float
    remarks: list[str]


def range_test(step: Callable[[float], float], config: FinderConfig) -> Found:
    """Trains with growing rates until the loss diverges.

    Args:
      step: updates the weights with a learning rate; returns the loss before.
      config: the rates.

    Raises:
      ValueError: the loss was never finite, or only rose.
    """
    growth = (config.highest / config.lowest) ** (1 / (config.updates - 1))
    rates, losses, least = [], [], math.inf
    for index in range(config.updates):
        loss = step(config.lowest * growth**index)
        if not math.isfinite(loss):
            break
        rates.append(config.lowest * growth**index)
        losses.append(loss)
        recent = sum(losses[-_RECENT:]) / len(losses[-_RECENT:])
        least = min(least, recent)
        if recent > least + (_DIVERGED - 1) * abs(least):  # losses may be negative
            break
    if len(losses) < 2 * _RECENT:
        raise ValueError(f"the loss was finite for {len(losses)} updates only, up to {rates[-1:]}; lower --lowest")
    smoothed = smooth(losses, max(1, config.updates // 40))
    best = min(range(len(smoothed)), key=smoothed.__getitem__)
    if best == 0:
        raise ValueError(f"the loss did not fall at any rate from {config.lowest:.1e} on; lower --lowest")
    remarks = []
    if best == config.updates - 1:
        remarks.append(f"the loss still fell at {rates[best]:.1e}; raise --highest")
    return Found(rates, losses, smoothed, rates[best] / _BACK, remarks)


def smooth(values: list[float], reach: int) -> list[float]:
    """Returns means over up to `reach` neighbours on each side, so that nothing is shifted."""
    around = [values[max(0, index - reach) : index + reach + 1] for index in range(len(values))]
    return [sum(part) / len(part) for part in around]


def plot_rates(found: Found, path: Path) -> None:
    """Draws loss by learning rate."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    axis.semilogx(found.rates, found.losses, ".", color="#9ca3af", label="loss of a step")
    axis.semilogx(found.rates, found.smoothed, color="#2563eb", label="smoothed")
    axis.axvline(found.suggested, color="#dc2626", linestyle="--", label=f"suggested: {found.suggested:.1e}")
    # What diverged would press all else to the bottom.
    low, first = min(found.smoothed), found.smoothed[0]
    axis.set_ylim(low - 0.2 * (first - low), first + 0.8 * (first - low))
    axis.set_xlabel("learning rate")
    axis.set_ylabel("loss")
    axis.legend(frameon=False, loc="lower left")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def find(records: str, config: FinderConfig, tell: Callable[[str], None]) -> Found:
    """Returns what a range test on records gives; leaves no files."""
    import tensorflow as tf
    from tensorflow import keras

    from model.precision import choose_precision
    from records.info import read_info
    from training.compatibility import check_fits
    from training.devices import choose_strategy
    from training.run_folder import RunFolder
    from training.run_input import distribute, open_input
    from training.workers import Workers

    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    train, info = config.train, read_info(records, check_shards=False)
    strategy, reason = choose_strategy(train.virtual_replicas)
    tell(f"{'devices':<10} {strategy.num_replicas_in_sync} replica(s): {reason}")
    workers = Workers.of(strategy)
    check_fits(records, info, train, workers)
    policy, reason = choose_precision(train.precision)
    keras.mixed_precision.set_global_policy(policy)
    tell(f"{'precision':<10} {policy}: {reason}")
    with ExitStack() as stack:
        run = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data = stack.enter_context(open_input(records, info, RunFolder(run), train, workers, cli.progress, tell))
        train_step, done = _make_step(train, info, strategy, run, tell), 0
        batches = iter(distribute(workers, data.training_batches(0, 0)))
        report = stack.enter_context(cli.progress("rates", config.updates))

        def step(rate: float) -> float:
            nonlocal done
            losses = [
                float(train_step(next(batches), done * train.optimizer.accumulate + part, rate))
                for part in range(train.optimizer.accumulate)
            ]
            done += 1
            report(done)
            return sum(losses) / len(losses)

        return range_test(step, config)


def _make_step(train: TrainConfig, info, strategy, run: Path, tell) -> Callable:
    """Returns the trainer's own step, as a function of (batch, number of the step, learning rate)."""
    import tensorflow as tf

    from training.run_folder import RunFolder
    from training.trainer import build_trainer

    trainer = build_trainer(RunFolder(run), train, info, strategy, tell)
    trainer.freeze(train.freeze_epochs > 0)  # as the run begins
    steps = trainer.steps

    def step(batch, number: int, rate: float) -> tf.Tensor:
        loss, _ = steps.train(batch, tf.constant(number, tf.int64), tf.constant(rate, tf.float32))
        return loss

    return step


def main() -> None:
    """Parses the command line, tests, prints, draws."""
    paths, config = cli.parse(
        FinderConfig,
        {"records": "Folder made by `python -m preprocess`."},
        "python -m training.finder",
        "Trains a little with growing learning rates and suggests one.",
    )
    found = find(paths["records"], config, cli.console.print)
    plot_rates(found, Path(config.plot))
    for remark in found.remarks:
        cli.console.print(remark)
    cli.console.print(f"{'plot':<10} {config.plot}")
    # The trainer multiplies by this; what was tried was not multiplied.
    rate = found.suggested / config.train.optimizer.rate_scale(config.train.global_batch_size)
    cli.console.print(f"{'suggested':<10} --learning_rate {rate:.1e}")


if __name__ == "__main__":
    cli.run(main)
