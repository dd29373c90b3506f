"""How fast a model predicts, and how fast its predictions are judged: all of two splits, timed in this process."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import cli
from evaluation.config import EvalConfig
from evaluation.workers import default_workers
from model.config import ModelConfig

CONSTANT, RECORDS, WHOLE, REPORT = "one constant batch", "batches from records", "the whole evaluation", "report.html"


class Task(NamedTuple):
    """What is evaluated.

    Attributes:
      records: their folder.
      splits: a small and a large one.
      run: a RUN folder; None: the network, untrained.
      network: where there is no RUN.
      config: settings of the evaluation.
    """

    records: str
    splits: tuple[str, str]
    run: str | None
    network: ModelConfig
    config: EvalConfig


class Measured(NamedTuple):
    """What was measured.

    Attributes:
      sizes: examples of the small split and the large one.
      seconds: that each takes, by what was timed.
      cpu: seconds of all cores together that each takes, likewise. Other programs change them less.
      devices: in words.
    """

    sizes: tuple[int, int]
    seconds: dict[str, tuple[float, float]]
    cpu: dict[str, tuple[float, float]]
    devices: str

    def rate(self, name: str) -> float:
        """Returns the images a second at which the large split goes on where the small one ends."""
        (few, many), (short, long) = self.sizes, self.seconds[name]
        return (many - few) / (long - short) if long > short else float("inf")

    def work(self, name: str) -> float:
        """Returns the milliseconds of CPU that an image takes, behind those of the small split."""
        (few, many), (small, large) = self.sizes, self.cpu[name]
        return 1e3 * (large - small) / (many - few)

    def start(self, name: str) -> float:
        """Returns the seconds that would remain without any image."""
        return max(0.0, self.seconds[name][0] - self.sizes[0] / self.rate(name))


def ways_to_judge(config: EvalConfig) -> dict[str, EvalConfig]:
    """Returns settings by name: those of the whole evaluation, and of parts of it."""
    workers = default_workers() if config.workers is None else config.workers
    whole = replace(config, pictures=0, workers=workers, objects=True, distances=True)
    return {
        WHOLE: whole,
        "without objects": replace(whole, objects=False),
        "without distances": replace(whole, distances=False),
        "without either": replace(whole, objects=False, distances=False),
        "in one process": replace(whole, workers=0),
    }


def measure_rates(task: Task, repeats: int) -> Measured:
    """Returns medians of so many turns; to be called in a fresh process.

    What is compared takes turns, so that a machine that becomes slower slows down all of it.

    Raises:
      ValueError: run, records and settings do not fit together.
    """
    import tensorflow as tf

    from evaluation.report.build import write_report

    tf.get_logger().setLevel("ERROR")  # it warns that each evaluation compiles the network anew
    predictor, info, devices = open_predictor(task)
    with tempfile.TemporaryDirectory() as folder:
        folders = {split: Path(folder, "run", "eval", split) for split in task.splits}
        ways: dict[str, Callable[[str], None]] = {RECORDS: partial(predict_all, predictor, info, task)}
        if predictor.trained.crop is None:  # else the number of tiles is not known beforehand
            ways[CONSTANT] = partial(predict_all, predictor, info, task, constant=True)
        for name, config in ways_to_judge(task.config).items():
            ways[name] = lambda split, config=config: judge_all(predictor, info, task, split, folders[split], config)
        ways[REPORT] = lambda split: write_report(folders[split])
        for way in ways.values():
            way(task.splits[0])  # what only the first call needs
        rounds = [(name, split) for _ in range(repeats) for split in task.splits for name in ways]
        times = {key: [] for key in rounds}
        with cli.progress("measure", len(rounds)) as report:
            for done, (name, split) in enumerate(rounds, 1):
                start = _clocks()
                ways[name](split)
                times[name, split].append([end - begin for begin, end in zip(start, _clocks(), strict=True)])
                report(done)
    seconds, cpu = (
        {
            name: tuple(statistics.median(row[clock] for row in times[name, split]) for split in task.splits)
            for name in ways
        }
        for clock in (0, 1)
    )
    sizes = tuple(info.splits[split].num_examples for split in task.splits)
    return Measured(sizes, seconds, cpu, f"{devices}, {os.cpu_count()} CPUs")


def _clocks() -> tuple[float, float]:
    """Returns seconds, and those of CPU: of this process and of those that it started and that have ended."""
    return time.perf_counter(), sum(os.times()[:4])


def open_predictor(task: Task):
    """Returns (predictor, info of the records, devices in words).

    Raises:
      ValueError: run, records and settings do not fit together.
    """
    from inference.predictor import Predictor, load_predictor
    from inference.run import check_fits
    from records.info import read_info
    from training.devices import choose_strategy

    info = read_info(task.records, check_shards=False)
    strategy, devices = choose_strategy(task.config.virtual_replicas)
    if task.run is None:
        with strategy.scope():
            return Predictor(untrained(task.network, info), strategy), info, devices
    predictor = load_predictor(task.run, task.config, strategy)
    check_fits(predictor.trained, info, task.run, task.records)
    return predictor, info, devices


def untrained(network: ModelConfig, info):
    """Returns an untrained network whose answer is, but for a trifle of its own, what differs from an image's mean.

    Of made-up nuclei that is about right. Noise would have thousands of objects, and take far longer to judge.
    """
    import tensorflow as tf
    from tensorflow import keras

    from inference.run import TrainedModel
    from model.labels import Labels
    from model.precision import choose_precision
    from model.unet import build_unet

    keras.mixed_precision.set_global_policy(choose_precision("auto")[0])
    mean, std = [128.0] * info.channels, [64.0] * info.channels
    unet = build_unet(network, info.channels, Labels(len(info.classes)), mean, std, seed=0)
    images = keras.Input([None, None, info.channels])
    values = tf.cast(images[..., :1], tf.float32)
    difference = tf.abs(values - tf.reduce_mean(values, [1, 2], keepdims=True))
    ordinary = 1.5 * tf.math.reduce_std(values, [1, 2], keepdims=True)
    model = keras.Model(images, (difference - ordinary) / 10 + 1e-6 * unet(images))
    return TrainedModel(model, info.classes, info.channels, info.dtype, info.fingerprint, network.multiple)


def predict_all(predictor, info, task: Task, split: str, constant: bool = False) -> None:
    """Predicts the masks of a split, and nothing else.

    Args:
      predictor, info: see `open_predictor`.
      task: with the records.
      split: its name.
      constant: whether the first batch is predicted again and again instead.
    """
    import tensorflow as tf

    from evaluation.examples import split_batches

    trained, strategy = predictor.trained, predictor.strategy

    @tf.function
    def predict(images):
        def predict_replica(images):
            return trained.labels.classify(trained.probabilities(images), predictor.thresholds)

        return strategy.run(predict_replica, (images,))

    _, batches = split_batches(task.records, info, split, trained.crop, task.config.batch_size, strategy)
    distributed = strategy.experimental_distribute_dataset(batches)
    if constant:
        count = -(-info.splits[split].num_examples // task.config.batch_size)
        distributed = repeat(next(iter(distributed)), count)
    for batch in distributed:
        masks = predict(batch["image"])
    for part in strategy.experimental_local_results(masks):
        part.numpy()  # accelerators compute in the background


def judge_all(predictor, info, task: Task, split: str, folder: Path, config: EvalConfig) -> None:
    """Judges a split as test.py does, but for pictures and report.

    Args:
      predictor, info: see `open_predictor`.
      task: with the records.
      split: its name.
      folder: where files go.
      config: of the evaluation.
    """
    from evaluation.evaluator import evaluate

    evaluate(predictor, task.records, info, folder, replace(config, split=split), cli.show_nothing)


def judge_once(task: Task, index: int, raw: str, out: str, workers: int) -> dict[str, float]:
    """Judges the small split (index 0) or the large one in a process of its own, for `benchmarks.measure.measure`."""
    predictor, info, _ = open_predictor(task)
    config = replace(ways_to_judge(task.config)[WHOLE], workers=workers)
    judge_all(predictor, info, task, task.splits[index], Path(out), config)
    return {"images": info.splits[task.splits[index]].num_examples}
