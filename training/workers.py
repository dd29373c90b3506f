"""The processes that train together, one on each machine, as TF_CONFIG names them."""

import contextlib
import functools
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from records.order import Share
from training.preemption import Preempted

PEER_ERRORS = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)
"""What TensorFlow raises where a worker that others wait for is gone."""


@dataclass(frozen=True)
class Workers:
    """This process among those that train one model.

    Attributes:
      strategy: devices of all of them.
      index: of this one; 0 is the chief, which writes the RUN folder and talks to the user.
      count: how many there are.
    """

    strategy: tf.distribute.Strategy
    index: int = 0
    count: int = 1

    @staticmethod
    def of(strategy: tf.distribute.Strategy) -> "Workers":
        """Returns the workers of a strategy."""
        if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return Workers(strategy)
        resolver = strategy.cluster_resolver
        cluster = resolver.cluster_spec().as_dict()
        chiefs = len(cluster.get("chief", ()))
        index = resolver.task_id + (chiefs if resolver.task_type == "worker" else 0)
        return Workers(strategy, index, chiefs + len(cluster.get("worker", ())))

    @property
    def is_chief(self) -> bool:
        """Whether this is the one that writes and talks."""
        return self.index == 0

    @property
    def share(self) -> Share:
        """Which examples this one reads."""
        return Share(self.index, self.count)

    def check_same(self, **mine: object) -> None:
        """Waits for all workers, and raises ValueError unless all bring the same.

        Args:
          **mine: what this one brings, by name; their texts are compared.
        """
        if self.count > 1:
            # 24 bits: float32 holds them exactly, and every device gathers it.
            numbers = self._gather([float(zlib.crc32(repr(value).encode()) & 0xFFFFFF) for value in mine.values()])
            if others := [name for name, column in zip(mine, numbers.T, strict=True) if len(set(column)) > 1]:
                raise ValueError(
                    f"expected the same on all {self.count} machines, found different: {', '.join(others)}; start all "
                    "with the same command, where GPUs differ with --precision, and with folders and files that all of "
                    "them see"
                )

    def any(self, mine: bool) -> bool:
        """Returns whether any worker says so; waits for all of them."""
        return mine if self.count == 1 else bool(self._gather([float(mine)]).any())

    @contextlib.contextmanager
    def ready_together(self) -> Iterator[None]:
        """Raises on all workers if the body raises on one. In the body none of them may wait for the others."""
        error = None
        try:
            yield
        except Exception as raised:  # whatever it is, the others must not wait for this one
            error = raised
        ready = self.count == 1 or self._gather([float(error is None)]).all()
        if error is not None:
            raise error
        if not ready:
            raise ValueError("another machine could not begin; it has printed why")

    def _gather(self, mine: list[float]) -> np.ndarray:
        """Returns the numbers of all workers' replicas, float32 [replicas, numbers]."""
        return self._gather_rows(tf.constant([mine], tf.float32)).numpy()

    @functools.cached_property
    def _gather_rows(self) -> Callable[[tf.Tensor], tf.Tensor]:
        def gather(row):
            return self.strategy.gather(self.strategy.run(tf.identity, (row,)), axis=0)

        return tf.function(gather, input_signature=[tf.TensorSpec([1, None], tf.float32)])


class Agreement(NamedTuple):
    """What all workers do behind a step.

    Attributes:
      stop: save and end, as one of them was asked to.
      save: write a checkpoint.
      show: look at loss and Dice.
      checked: no damage can be found any more in what the chief reads, so that what was learnt may be kept.
    """

    stop: bool = False
    save: bool = False
    show: bool = False
    checked: bool = False

    @staticmethod
    def of(sums: tf.Tensor) -> "Agreement":
        """Returns what came of all workers' wishes, float32 [4], added up."""
        return Agreement(*(value > 0 for value in sums.numpy().tolist()))

    def __or__(self, other: "Agreement") -> "Agreement":
        return Agreement(*(mine or theirs for mine, theirs in zip(self, other, strict=True)))


class Wishes:
    """What a worker wishes for. They must act alike, and their clocks differ: the chief's decides.

    Args:
      workers: of this process.
      save_seconds, show_seconds: time between checkpoints, between looks at the scores.
    """

    def __init__(self, workers: Workers, save_seconds: float, show_seconds: float):
        self._is_chief = workers.is_chief
        self._seconds = {"save": save_seconds, "show": show_seconds}
        self._last = dict.fromkeys(self._seconds, time.monotonic())

    def ask(self, stop: bool, checked: bool) -> tf.Tensor:
        """Returns float32 [4], for `Agreement`.

        Args:
          stop: this worker was asked to stop.
          checked: it has found its shards whole.
        """
        save = checked and self._is_due("save")
        return tf.constant([stop, save, self._is_due("show"), checked and self._is_chief], tf.float32)

    def _is_due(self, name: str) -> bool:
        due = self._is_chief and time.monotonic() - self._last[name] >= self._seconds[name]
        if due:
            self._last[name] = time.monotonic()
        return due


@contextlib.contextmanager
def peers_present(workers: Workers) -> Iterator[None]:
    """Ends a run that has lost a worker as one that was asked to stop: started anew on all machines, it goes on."""
    try:
        yield
    except PEER_ERRORS as error:
        if workers.count == 1:
            raise
        raise Preempted(
            f"another machine is gone, or has printed an error ({type(error).__name__}); the same command on all "
            f"{workers.count} machines goes on from the last checkpoint"
        ) from error
