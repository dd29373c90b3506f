"""python -m benchmarks.training: does the model wait for its input, and what do batch size and precision change?

Times steps of the real trainer on batches from records and on one constant batch that already lies on the device, in
turn, in one process. Their ratio is 1 where input costs nothing; where it is less, a line says what limits. Then the
same for each batch size and precision, with the memory that they need; and, if wanted, whole runs, for their Dice.
"""

import os
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from rich.table import Table

import cli
from benchmarks.made_up import made_up_records
from benchmarks.measure import in_own_process
from benchmarks.precision import (
    Runs,
    Speeds,
    choose_precisions,
    dice_table,
    dice_verdicts,
    failures,
    measure_speeds,
    speed_table,
    train_each,
)
from benchmarks.steps import Measured, measure_steps
from training.config import TrainConfig

AIM = 0.97


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured."""

    records: str | None = None
    """Records to train on; null: 256 made-up images of nuclei, 256x256."""
    seconds: float = 5.0
    """That steps are timed together, about; at least eight steps are."""
    repeats: int = 3
    """Times that each is timed; medians count."""
    batch_sizes: list[int] = field(default_factory=lambda: [8, 16, 32])
    """Of the table of precisions; []: no such table."""
    precisions: list[Literal["float32", "mixed_bfloat16", "mixed_float16"]] | None = None
    """That are compared with the first of them; null: float32 and what the trainer chooses on this machine."""
    epochs: int = 0
    """That are trained with each precision, to compare their Dice; 0: none."""
    seeds: list[int] = field(default_factory=lambda: [0])
    """Of those runs: each precision is trained with each of them."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Of the trainer: network, input, and for the first tables batch size and precision."""

    def __post_init__(self):
        for name in ("epochs", "repeats"):
            if getattr(self, name) < (fewest := int(name == "repeats")):
                raise ValueError(f"{name}: expected at least {fewest}, found {getattr(self, name)}")
        for name in ("precisions", "seeds"):
            if getattr(self, name) == []:
                raise ValueError(f"{name}: expected at least one, found none")
        if self.epochs:
            self.for_dice()  # what it refuses is told now, not behind minutes of measuring

    def for_dice(self) -> TrainConfig:
        """Returns the settings of a run that shows what Dice it comes to."""
        return replace(self.train, epochs=self.epochs, early_stopping=None)


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
        BenchmarkConfig,
        {},
        "python -m benchmarks.training",
        "Step time with records and with one constant batch; speed, memory and Dice by batch size and precision.",
    )
    with tempfile.TemporaryDirectory() as folder:
        records = config.records or made_up_records(Path(folder), images=256)
        devices = _compare_input(records, config)
        # Asked for in a process of its own: this one takes no memory of a GPU.
        precisions = config.precisions or in_own_process(choose_precisions)
        timing = config.seconds, config.repeats
        if config.batch_sizes:
            speeds = measure_speeds(records, config.train, precisions, config.batch_sizes, *timing)
            _print(speed_table(speeds, f"{devices}, medians of {config.repeats} rounds"), speeds)
        if config.epochs:
            train = config.for_dice()
            runs = train_each(records, train, precisions, config.seeds)
            title = f"{devices}, {train.epochs} epochs, batches of {train.global_batch_size}"
            _print(dice_table(runs, train.monitored[1], title), runs)
            for line in dice_verdicts(runs):
                cli.console.print(line)


def _compare_input(records: str, config: BenchmarkConfig) -> str:
    """Prints what input costs, with and without a cache; returns the devices in words."""
    streamed = replace(config.train, input=replace(config.train.input, cache_mib=0))
    for label, train in {"decoded each time": streamed, "as configured": config.train}.items():
        settings = records, train, config.seconds, config.repeats, False
        size = train.global_batch_size
        try:
            measured, devices, _ = in_own_process(measure_steps, *settings)
        except MemoryError as error:
            raise ValueError(f"batches of {size}: {error}; choose a smaller --train.global_batch_size") from error
        cli.console.print(results_table(measured, size, f"{devices}, batches of {size}, {label}"))
        cli.console.print(verdict(measured, os.cpu_count()))
    return devices


def _print(table: Table, outcomes: Speeds | Runs) -> None:
    cli.console.print(table)
    for line in failures(outcomes):
        cli.console.print(line)


if __name__ == "__main__":
    cli.run(main)
