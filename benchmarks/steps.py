"""Steps of the real trainer, timed in this process: on batches from records, and on one batch that never changes."""

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cli
from benchmarks.measure import memory_mib, reset_peak
from training.config import TrainConfig

_FEWEST_STEPS = 8

_BUFFERED = 4
"""Batches, beside those of --train.input.prefetch, that devices and decoders may hold ready."""

_OUT_OF_MEMORY = ("OOM when allocating", "out of memory", "Out of memory", "failed to allocate", "RESOURCE_EXHAUSTED")
"""What TensorFlow, cuDNN and XLA say, in errors of several classes."""


class Measured(NamedTuple):
    """Seconds that a step takes.

    constant: on a batch that lies on the device. records: on batches from records. waiting: of `records`, until the
    batch was there. alone: a batch from records, without any model.
    """

    constant: float
    records: float
    waiting: float
    alone: float


def measure_steps(
    records: str, train: TrainConfig, seconds: float, repeats: int, quiet: bool
) -> tuple[Measured, str, float | None]:
    """Returns (medians over all repetitions, the devices in words, `peak_mib`), to be called in a fresh process.

    Args:
      records: folder of the records.
      train: settings of the trainer.
      seconds: that steps are timed together, about.
      repeats: times that each is timed.
      quiet: whether nothing is shown.

    Raises:
      ValueError: records, settings and devices do not fit together.
      MemoryError: of a device or of the host.
    """
    from tensorflow import keras

    from model.precision import choose_precision
    from records.info import read_info
    from training.compatibility import check_fits
    from training.devices import choose_strategy
    from training.run_folder import RunFolder
    from training.run_input import distribute, open_input
    from training.workers import Workers

    tell, progress = (cli.say_nothing, cli.show_nothing) if quiet else (cli.console.print, cli.progress)
    info = read_info(records, check_shards=False)
    strategy, devices = choose_strategy(train.virtual_replicas)
    workers = Workers.of(strategy)
    check_fits(records, info, train, workers)
    keras.mixed_precision.set_global_policy(choose_precision(train.precision)[0])
    with tempfile.TemporaryDirectory() as folder, memory_errors():
        run = RunFolder(Path(folder, "run"))
        step = _make_step(train, info, strategy, run, tell)
        with open_input(records, info, run, train, workers, progress, tell) as data:
            batches = iter(distribute(workers, data.training_batches(0, 0)))
            constant = next(batches)
            settling = train.input.prefetch + _BUFFERED
            time_round(step, constant, batches, 1)  # traces, warms up
            count = max(_FEWEST_STEPS, round(seconds / time_round(step, constant, batches, 1).constant))
            begin_peak()
            rounds = [time_round(step, constant, batches, count, settling) for _ in range(repeats)]
            peak = peak_mib()
    return Measured(*(statistics.median(values) for values in zip(*rounds, strict=True))), devices, peak


def _make_step(train: TrainConfig, info, strategy, run, tell: Callable[[str], None]) -> Callable:
    """Returns the trainer's own step, as a function of a batch."""
    import tensorflow as tf

    from training.trainer import build_trainer

    steps = build_trainer(run, train, info, strategy, tell).steps
    number, rate = tf.constant(0, tf.int64), tf.constant(train.learning_rate, tf.float32)
    return lambda batch: steps.train(batch, number, rate)[0]


def time_round(step: Callable, constant, batches: Iterator, count: int, settling: int = 1) -> Measured:
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


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Raises MemoryError where TensorFlow says in one of its ways that the memory of a device has run out."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        if any(words in str(error) for words in _OUT_OF_MEMORY):
            raise MemoryError("the memory of a device has run out") from error
        raise


def begin_peak() -> None:
    """Lets `peak_mib` begin anew."""
    import tensorflow as tf

    for index, _ in enumerate(tf.config.list_logical_devices("GPU")):
        tf.config.experimental.reset_memory_stats(f"GPU:{index}")
    with contextlib.suppress(OSError):
        reset_peak()


def peak_mib() -> float | None:
    """Returns the most memory in MiB that TensorFlow has had in use on one of the GPUs since `begin_peak`.

    Where there is no GPU, the most that this process has held of the host's; None where the system does not tell.
    """
    import tensorflow as tf

    if gpus := tf.config.list_logical_devices("GPU"):
        infos = [tf.config.experimental.get_memory_info(f"GPU:{index}") for index, _ in enumerate(gpus)]
        return max(info["peak"] for info in infos) / 2**20
    try:
        return memory_mib("VmHWM")
    except OSError:
        return None
