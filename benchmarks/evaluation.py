"""python -m benchmarks.evaluation: does the model wait for its judges, and what do they hold in memory?

Times the bare model, on batches from records and on a constant one, and the evaluation that test.py makes of its
predictions, whole and without some of its parts: all of a small split and of a large one. From both follow the images a
second that a long evaluation comes to, and the seconds that it takes to start. The ratio of the two rates is 1 where
judging costs nothing. Then the memory of either split, which is to be the same.
"""

import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.table import Table

import cli
from benchmarks.made_up import made_up_records
from benchmarks.measure import in_own_process, measure
from benchmarks.rates import CONSTANT, RECORDS, REPORT, WHOLE, Measured, Task, judge_once, measure_rates, ways_to_judge
from evaluation.config import EvalConfig
from model.config import ModelConfig

AIM = 0.9

_IMPLAUSIBLE = 1.1
"""Of the bare model's rate: judging takes time, so a larger one shows what other programs did."""

NETWORKS = {"U-Net": ModelConfig(), "tiny U-Net": ModelConfig(depth=2, filters=4)}


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured."""

    run: str | None = None
    """A trained run to measure, with its threshold and steps; null: untrained networks."""
    records: str | None = None
    """Records to judge it on; null: made-up images of nuclei, 256x256."""
    images: int = 320
    """How many images are made up: a tenth of them is the small split, eight tenths are the large one."""
    small: str = "test"
    """The small split."""
    large: str = "train"
    """The large split."""
    networks: list[str] = field(default_factory=lambda: list(NETWORKS))
    """Where there is no run: U-Net is the default one of train.py; tiny U-Net shows where judging is the limit."""
    repeats: int = 3
    """Turns in which each is timed; medians count."""
    memory: bool = True
    """Measure memory too."""
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    """Of the evaluation; pictures are left out, and what the rows name is set by them."""

    def __post_init__(self):
        if (self.run is None) != (self.records is None):
            raise ValueError(f"run, records: expected both or neither, found {self.run} and {self.records}")
        if self.repeats < 1:
            raise ValueError(f"repeats: expected at least 1, found {self.repeats}")
        if self.images < 32:
            raise ValueError(f"images: expected at least 32, found {self.images}")
        if unknown := set(self.networks) - set(NETWORKS):
            raise ValueError(f"networks: expected some of {', '.join(NETWORKS)}, found {', '.join(sorted(unknown))}")


def rate_table(measured: Measured, title: str) -> Table:
    """Returns images/s, their ratio to the bare model's, the work of an image, and the seconds of each start."""
    table = Table(title=title, title_justify="left")
    for heading in ("", "images/s", "of the model", "CPU, ms an image", "start, s"):
        table.add_column(heading, justify="right" if heading else "left")
    bare = measured.rate(RECORDS)
    for name in measured.seconds:
        if name != REPORT:
            rate = measured.rate(name)
            table.add_row(
                name, f"{rate:.1f}", f"{rate / bare:.2f}", f"{measured.work(name):.1f}", f"{measured.start(name):.1f}"
            )
    return table


def verdict(measured: Measured) -> str:
    """Returns what limits the speed of the evaluation, in words."""
    bare, ratio = measured.rate(RECORDS), measured.rate(WHOLE) / measured.rate(RECORDS)
    judged = [measured.rate(name) for name in measured.seconds if name not in (CONSTANT, RECORDS, REPORT)]
    less = [measured.rate(name) for name in measured.seconds if name.startswith("without")]
    seems = None
    if bare == float("inf") or max(judged) > _IMPLAUSIBLE * bare:
        seems = f"to make the model {max(judged) / bare:.2f} times as fast"
    elif measured.rate(WHOLE) > _IMPLAUSIBLE * min(less):
        seems = f"to be {measured.rate(WHOLE) / min(less):.2f} times as fast as a part of it"
    if seems:
        return (
            f"Nothing can be said: judging seems {seems}, so other programs use this machine; stop them, or take more "
            "--repeats and --images. The milliseconds of CPU are less uncertain."
        )
    report = f"{REPORT} of {measured.sizes[1]} images takes {measured.seconds[REPORT][1]:.1f} s more."
    if ratio >= AIM:
        return f"The model is the limit: judged, images take {1 / ratio:.2f} times as long as predicted only. {report}"
    parts = {"objects": "without objects", "boundaries": "without distances"}
    gains = {part: measured.rate(name) / bare - ratio for part, name in parts.items()}
    costly = max(gains, key=gains.get)
    return (
        f"Judging is the limit: the evaluation comes to {ratio:.2f} of the bare model's rate, without {costly} to "
        f"{ratio + gains[costly]:.2f}; more cores judge more images side by side. {report}"
    )


def memory_table(memories: list[dict[str, float]], title: str) -> Table:
    """Returns the peak memory of the process that predicts and of the largest that judges, by number of images."""
    table = Table(title=title, title_justify="left")
    for heading in ("images", "process, MiB", "worker, MiB"):
        table.add_column(heading, justify="right")
    for memory in memories:
        table.add_row(*(f"{memory[name]:.0f}" for name in ("images", "driver_mib", "worker_mib")))
    return table


def main() -> None:
    """Parses the command line, measures, prints."""
    _, config = cli.parse(
        BenchmarkConfig,
        {},
        "python -m benchmarks.evaluation",
        "Images/s of the bare model and of its evaluation, and the memory that an evaluation needs.",
    )
    with tempfile.TemporaryDirectory() as folder:
        records = config.records or made_up_records(Path(folder), config.images)
        networks = {name: NETWORKS[name] for name in config.networks}
        for name, network in networks.items() if config.run is None else [(config.run, ModelConfig())]:
            task = Task(records, (config.small, config.large), config.run, network, config.evaluation)
            _measure(task, name, config)


def _measure(task: Task, name: str, config: BenchmarkConfig) -> None:
    measured = in_own_process(measure_rates, task, config.repeats)
    workers = ways_to_judge(task.config)[WHOLE].workers
    title = (
        f"{name}, {measured.devices}, batches of {task.config.batch_size}, {workers} workers, "
        f"{measured.sizes[0]} and {measured.sizes[1]} images, medians of {config.repeats} turns"
    )
    cli.console.print(rate_table(measured, title))
    cli.console.print(verdict(measured))
    if config.memory:
        memories = [measure(partial(judge_once, task, index), task.records, workers) for index in (0, 1)]
        cli.console.print(memory_table(memories, f"{name}: peak memory of the whole evaluation"))


if __name__ == "__main__":
    cli.run(main)
