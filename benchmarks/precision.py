"""The trainer in several precisions: speed and memory by batch size, and the Dice that each ends with."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from rich.table import Table

import cli
from benchmarks.measure import in_own_process
from benchmarks.steps import Measured, measure_steps, memory_errors
from training.config import TrainConfig

NEAR = 0.005
"""Difference in Dice up to which a precision is as good as another."""

T = TypeVar("T")

Speeds = dict[tuple[int, str], tuple[Measured, float | None] | Exception]
"""(steps, peak memory in MiB) by (batch size, precision), or what was raised instead."""


class Trained(NamedTuple):
    """What a run came to.

    validation: its score behind the last epoch. test: Dice per image on the test split, of the best epoch's model; None
    without such a split, and of a classifier. seconds: of the whole run.
    """

    validation: float
    test: float | None
    seconds: float


Runs = dict[tuple[int, str], Trained | Exception]
"""By (seed, precision)."""


def choose_precisions() -> list[str]:
    """Returns float32 and, where it is another, what the trainer would choose on this machine."""
    from model.precision import choose_precision

    return list(dict.fromkeys(["float32", choose_precision("auto")[0]]))


def measure_speeds(
    records: str, train: TrainConfig, precisions: list[str], sizes: list[int], seconds: float, repeats: int
) -> Speeds:
    """Returns the speed and memory of steps, each combination in a process of its own."""

    def measure(size: int, precision: str) -> tuple[Measured, float | None]:
        settings = replace(train, global_batch_size=size, precision=precision)
        measured, _, peak = in_own_process(measure_steps, records, settings, seconds, repeats, True)
        return measured, peak

    outcomes = {}
    with cli.progress("measure", len(sizes) * len(precisions)) as report:
        for key, outcome in _attempt(measure, sizes, precisions):
            outcomes[key] = outcome
            report(len(outcomes))
    return outcomes


def train_each(records: str, train: TrainConfig, precisions: list[str], seeds: list[int]) -> Runs:
    """Trains with each precision and seed, each in a process of its own; shows epochs as they end."""

    def run(seed: int, precision: str) -> Trained:
        cli.console.print(f"{'train':<10} {precision}, seed {seed}")
        return in_own_process(train_once, records, replace(train, seed=seed, precision=precision))

    return dict(_attempt(run, seeds, precisions))


def _attempt(measure: Callable[[int, str], T], numbers: list[int], precisions: list[str]) -> Iterator:
    """Yields ((number, precision), what `measure` returns of them or the error that belongs into the table)."""
    for number in numbers:
        for precision in precisions:
            try:
                yield (number, precision), measure(number, precision)
            except (MemoryError, ValueError, FloatingPointError) as error:
                yield (number, precision), error


def train_once(records: str, train: TrainConfig) -> Trained:
    """Trains as train.py does, into a folder that is deleted; to be called in a fresh process."""
    import tensorflow as tf
    from tensorflow import keras

    from model.precision import choose_precision
    from records.info import read_info
    from training.devices import choose_strategy
    from training.run import train as train_run
    from training.run_folder import RunFolder

    if train.deterministic:
        tf.config.experimental.enable_op_determinism()
    info = read_info(records, check_shards=False)
    strategy, _ = choose_strategy(train.virtual_replicas)
    keras.mixed_precision.set_global_policy(choose_precision(train.precision)[0])
    with tempfile.TemporaryDirectory() as folder, memory_errors():
        run = RunFolder(Path(folder, "run"))
        start = time.perf_counter()
        state = train_run(records, info, run, train, strategy, cli.show_nothing, cli.console.print)
        seconds = time.perf_counter() - start
        test = _test(run, records, info, strategy) if train.task == "segment" else None
    return Trained(state.history[-1][train.monitored[0]], test, seconds)


def _test(run, records: str, info, strategy) -> float | None:
    """Returns Dice per image of the run's model on the test split, None where that is empty."""
    from evaluation.config import EvalConfig
    from evaluation.evaluator import evaluate
    from inference.predictor import Predictor
    from inference.run import load_run
    from records.info import judged_split

    if judged_split(info, None) != "test":
        return None
    with strategy.scope():
        trained = load_run(run)
    folder, config = run.evaluation("test"), EvalConfig(pictures=0)
    metrics = evaluate(Predictor(trained, strategy), records, info, folder, config, cli.show_nothing)
    return metrics["dice_per_image"]


def speed_table(speeds: Speeds, title: str) -> Table:
    """Returns speed and memory by batch size and precision; the first precision is what others are compared with."""
    reference = next(precision for _, precision in speeds)
    table = _table(title, ("batch", "precision", "ms a step", "images/s", f"of\n{reference}", "waiting", "peak\nMiB"))
    for (size, precision), outcome in speeds.items():
        if isinstance(outcome, Exception):
            table.add_row(str(size), precision, _failure(outcome), *["-"] * 4)
            continue
        measured, peak = outcome
        other = speeds[size, reference]
        ratio = None if isinstance(other, Exception) else other[0].records / measured.records
        table.add_row(
            str(size),
            precision,
            f"{1e3 * measured.records:.1f}",
            f"{size / measured.records:.1f}",
            _number(ratio, ".2f"),
            f"{measured.waiting / measured.records:.0%}",
            _number(peak, ",.0f"),
        )
    return table


def dice_table(runs: Runs, score: str, title: str) -> Table:
    """Returns what each run came to, and its difference from the first precision's run of the same seed."""
    reference = next(precision for _, precision in runs)
    difference = f"from\n{reference}"
    headings = (f"validation\n{score}", difference, "test\nDice", difference)
    table = _table(title, ("seed", "precision", *headings, "s"))
    for (seed, precision), run in runs.items():
        if isinstance(run, Exception):
            table.add_row(str(seed), precision, _failure(run), *["-"] * 4)
            continue
        validation, test = (_difference(runs, seed, precision, name) for name in ("validation", "test"))
        table.add_row(
            str(seed),
            precision,
            f"{run.validation:.4f}",
            _number(validation, "+.4f"),
            _number(run.test, ".4f"),
            _number(test, "+.4f"),
            f"{run.seconds:.0f}",
        )
    return table


def dice_verdicts(runs: Runs) -> list[str]:
    """Returns a line for each precision but the first: whether its scores, means over the seeds, are near."""
    seeds = list(dict.fromkeys(seed for seed, _ in runs))
    reference, *others = dict.fromkeys(precision for _, precision in runs)
    lines = []
    for precision in others:
        for name in ("validation", "test"):
            differences = [_difference(runs, seed, precision, name) for seed in seeds]
            if None in differences:
                continue
            mean = statistics.mean(differences)
            near = f"within {NEAR}" if abs(mean) <= NEAR else f"more than {NEAR}"
            over = f"mean of {len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
            lines.append(f"{precision}: {name} differs by {mean:+.4f} from {reference} ({over}), {near}.")
    return lines


def failures(outcomes: Speeds | Runs) -> list[str]:
    """Returns a line for each combination that could not be measured."""
    return [
        f"{number}, {precision}: {outcome}"
        for (number, precision), outcome in outcomes.items()
        if isinstance(outcome, Exception)
    ]


def _difference(runs: Runs, seed: int, precision: str, name: str) -> float | None:
    """Returns by how much a run's score differs from the first precision's of that seed, None where one is missing."""
    reference = next(other for _, other in runs)
    mine, base = (getattr(runs[seed, each], name, None) for each in (precision, reference))
    return None if mine is None or base is None or precision == reference else mine - base


def _failure(error: Exception) -> str:
    return {MemoryError: "out of memory", FloatingPointError: "not finite"}.get(type(error), "refused")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _table(title: str, headings: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "precision" else "right")
    return table
