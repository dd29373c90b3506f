"""python -m benchmarks.training: does the model wait for its input?

Times steps of the real trainer on batches from records and on one constant batch that already lies on the device, in
turn, in one process. Their ratio is 1 where input costs nothing; where it is less, a line says what limits.
"""

import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

import cli
from training.config import TrainConfig

AIM = 0.97

_FEWEST_STEPS = 8

_BUFFERED = 4
"""Batches, beside those of --train.input.prefetch, that devices and decoders may hold ready."""


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured."""

    records: str | None = None
    """Records to train on; null: 256 made-up images of nuclei, 256x256."""
    seconds: float = 5.0
    """That steps are timed together, about; at least eight steps are."""
    repeats: int = 3
    """Times that each is timed; medians count."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Of the trainer: batch size, network, input, precision."""


class Measured(NamedTuple):
    """Seconds that a step takes.

    constant: on a batch that lies on the device. records: on batches from records. waiting: of `records`, until the
    batch was there. alone: a batch from records, without any model.
    """

    constant: float
    records: float
    waiting: float
    alone: float


def measure(records: str, config: BenchmarkConfig, run: Path, tell: Callable[[str], None]) -> tuple[Measured, str]:
    """Returns medians over all repetitions, and the devices in words."""
    from tensorflow import keras

    from model.precision import choose_precision
    from records.info import read_info
    from training.devices import choose_strategy
    from training.run_folder import RunFolder
    from training.run_input import distribute, open_input
    from training.workers import Workers

    train, info = config.train, read_info(records, check_shards=False)
    strategy, devices = choose_strategy(train.virtual_replicas)
    workers = Workers.of(strategy)
    keras.mixed_precision.set_global_policy(choose_precision(train.precision)[0])
    step = _make_step(train, info, strategy, run)
    with open_input(records, info, RunFolder(run), train, workers, cli.progress, tell) as data:
        batches = iter(distribute(workers, data.training_batches(0, 0)))
        constant = next(batches)
        settling = train.input.prefetch + _BUFFERED
        _time_round(step, constant, batches, 1)  # traces, warms up
        seconds = _time_round(step, constant, batches, 1).constant
        count = max(_FEWEST_STEPS, round(config.seconds / seconds))
        rounds = [_time_round(step, constant, batches, count, settling) for _ in range(config.repeats)]
    return Measured(*(statistics.median(seconds) for seconds in zip(*rounds, strict=True))), devices


def _make_step(train: TrainConfig, info, strategy, run: Path) -> Callable:
    """Returns the trainer's own step, as a function of a batch."""
    import tensorflow as tf

    from training.run_folder import RunFolder
    from training.trainer import build_trainer

    steps = build_trainer(RunFolder(run), train, info, strategy, cli.console.print).steps
    number, rate = tf.constant(0, tf.int64), tf.constant(train.learning_rate, tf.float32)
    return lambda batch: steps.train(batch, number, rate)[0]


def _time_round(step: Callable, constant, batches: Iterator, count: int, settling: int = 1) -> Measured:
    """Returns what so many steps take, after so many on batches that were prepared while something else was timed."""
    start = time.perf_counter()
    for _ in range(count):
        loss = step(constant)
    float(loss)  # accelerators compute in the background: waits for the last step
    on_constant = time.perf_counter() - start

    for _ in range(settling):
        loss = step(next(batches))
    float(loss)
    waiting, start = 0.0, time.perf_counter()
    for _ in range(count):
        begin = time.perf_counter()
        batch = next(batches)
        waiting += time.perf_counter() - begin
        loss = step(batch)
    float(loss)
    on_records = time.perf_counter() - start

    for _ in range(settling):
        next(batches)
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    alone = time.perf_counter() - start
    return Measured(on_constant / count, on_records / count, waiting / count, alone / count)


def results_table(measured: Measured, batch_size: int, title: str) -> Table:
    """Returns milliseconds, images/s and ratios of what was measured."""
    table = Table(title=title, title_justify="left")
    for heading in ("", "ms a step", "images/s", "of constant"):
        table.add_column(heading, justify="right" if heading else "left")
    rows = {
        "one constant batch on the device": measured.constant,
        "batches from records": measured.records,
        "the same batches, no model": measured.alone,
    }
    for name, seconds in rows.items():
        table.add_row(name, f"{1e3 * seconds:.1f}", f"{batch_size / seconds:.1f}", f"{measured.constant / seconds:.3f}")
    return table


def verdict(measured: Measured, cores: int) -> str:
    """Returns what limits the speed of training, in words."""
    ratio = measured.constant / measured.records
    waiting = measured.waiting / measured.records
    if ratio >= AIM:
        return f"The model is the limit: with records, steps are {ratio:.3f} times as fast as with a constant batch."
    if measured.alone > measured.constant:
        needed = cores * measured.alone / measured.constant
        return (
            f"Decoding is the limit: {cores} cores need {1e3 * measured.alone:.0f} ms for a batch, the model "
            f"{1e3 * measured.constant:.0f} ms. About {needed:.0f} such cores would feed it; or cache decoded examples "
            "(--train.input.cache_mib), or let other machines decode (--train.input.data_service)."
        )
    return (
        f"Model and decoders share the cores: with records, steps are {ratio:.3f} times as fast as with a constant "
        f"batch, of which {waiting:.0%} is waiting for input. Caching decoded examples helps (--train.input.cache_mib)."
    )


def main() -> None:
    """Parses the command line, measures, prints."""
    _, config = cli.parse(
        BenchmarkConfig, {}, "python -m benchmarks.training", "Step time with records and with one constant batch."
    )
    with tempfile.TemporaryDirectory() as folder:
        records = config.records or _made_up(Path(folder))
        streamed = replace(config.train, input=replace(config.train.input, cache_mib=0))
        for label, train in {"decoded each time": streamed, "as configured": config.train}.items():
            measured, devices = measure(records, replace(config, train=train), Path(folder, "run"), cli.console.print)
            size = train.global_batch_size
            cli.console.print(results_table(measured, size, f"{devices}, batches of {size}, {label}"))
            cli.console.print(verdict(measured, os.cpu_count()))


def _made_up(folder: Path) -> str:
    from preprocess.config import PreprocessConfig
    from preprocess.job import preprocess
    from preprocess.synthetic import SyntheticConfig, write_nuclei

    write_nuclei(folder / "raw", SyntheticConfig(images=256))
    logging.disable(logging.WARNING)  # Beam's notes
    settings = PreprocessConfig(size=256, workers=os.cpu_count())
    preprocess("nuclei", str(folder / "raw"), str(folder / "records"), settings, cli.progress, lambda line: None)
    logging.disable(logging.NOTSET)
    return str(folder / "records")


if __name__ == "__main__":
    cli.run(main)
