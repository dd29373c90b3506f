"""The order of training examples: a function of the seed, the epoch and the shards, and of nothing else.

A seeded permutation of the shards, a deterministic interleave of them, a seeded shuffle of serialized records under a
budget in MiB. No pixel is decoded here. The same order comes out whether records stream from their files or only
their indices are ordered, because decoded examples lie in a cache (`records.cache`).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from records.mixing import draw_copies
from records.shards import ShardFile

_INTERLEAVED_SHARDS = 16
_SHUFFLED = 0.75
"""Of the budget for shuffling. The rest holds records already shuffled, so that decoders have work while the next epoch
fills the buffer."""

_DRAWS_PER_EPOCH = 1 << 32

_EVEN = 0.98


class Share(NamedTuple):
    """The `index`-th of `count` workers' part of the examples."""

    index: int = 0
    count: int = 1


EVERYTHING = Share()

Reader = Callable[[tf.Tensor], tf.data.Dataset]
"""From the number of a file to what stands for its records, in order."""


def divide(files: Sequence[ShardFile], share: Share) -> tuple[list[ShardFile], Share]:
    """Returns (the files that a worker reads, its share of the examples in them).

    Whole shards are divided, evenly by their numbers of examples, where that leaves no worker with less than 98 % of
    its due. Otherwise every worker reads all shards and decodes every count-th example.
    """
    portions = _portions(files, share.count)
    lengths = [sum(file.length for file in portion) for portion in portions]
    if min(lengths) >= _EVEN * sum(lengths) / share.count:
        return portions[share.index], EVERYTHING
    return list(files), share


def example_counts(files: Sequence[ShardFile], workers: int) -> list[int]:
    """Returns the number of examples that each worker gets by `divide`."""
    counts = []
    for index in range(workers):
        own, part = divide(files, Share(index, workers))
        counts.append(len(range(part.index, sum(file.length for file in own), part.count)))
    return counts


def _portions(files: Sequence[ShardFile], count: int) -> list[list[ShardFile]]:
    """Returns the files in portions of about as many examples: the longest shards first, each to the least portion."""
    portions: list[list[int]] = [[] for _ in range(count)]
    lengths = [0] * count
    for number in sorted(range(len(files)), key=lambda number: -files[number].length):
        least = lengths.index(min(lengths))
        portions[least].append(number)
        lengths[least] += files[number].length
    return [[files[number] for number in sorted(portion)] for portion in portions]


def buffer_sizes(files: Sequence[ShardFile], shuffle_mib: int) -> tuple[int, int]:
    """Returns (records that are shuffled at a time, records that are read ahead of the decoders) under a budget.

    The budget is that of records of average size.
    """
    examples = sum(file.length for file in files)
    affordable = shuffle_mib * 2**20 * examples / sum(file.num_bytes for file in files)
    shuffled = max(1, min(examples, int(_SHUFFLED * affordable)))
    return shuffled, max(1, min(examples, int((1 - _SHUFFLED) * affordable)))


def serialized_records(files: Sequence[ShardFile]) -> Reader:
    """Returns a reader of the records' bytes, string []."""
    paths = tf.constant([file.path for file in files])
    return lambda number: tf.data.TFRecordDataset(paths[number])


def record_indices(files: Sequence[ShardFile]) -> Reader:
    """Returns a reader of the records' places, int64 [], counted over all files."""
    starts = _starts(files)
    return lambda number: tf.data.Dataset.range(starts[number], starts[number + 1])


def epoch_order(
    files: Sequence[ShardFile], read: Reader, seed: int, buffer: int, weights: np.ndarray | None = None
) -> Callable[[tf.Tensor], tf.data.Dataset]:
    """Returns a function from an epoch, int64 [], to what `read` gives for each of its examples, in order.

    Args:
      files: to read from.
      read: what to read.
      seed: of the order.
      buffer: number of records that are shuffled at a time.
      weights: float64 [examples], how often each is drawn relative to the others; None: each once.

    Returns:
      A function to a dataset of (draw, what `read` gives); draw int64 [] is another number for every example of every
      epoch, from which randomness of its own is made.
    """
    starts = _starts(files)

    def order(epoch: tf.Tensor) -> tf.data.Dataset:
        # Of the graph that a dataset makes of this function: the program's own seed neither counts nor changes.
        tf.random.set_seed(1)
        numbers = tf.random.experimental.stateless_shuffle(tf.range(len(files)), seed=[seed, epoch], alg="philox")
        read_copies = read
        if weights is not None:
            copies = draw_copies(weights, seed, epoch)

            def read_copies(number):
                return _repeat_each(read(number), copies[starts[number] : starts[number + 1]])

        # In parallel, because remote shards answer slowly. The order is that of a sequential interleave.
        records = tf.data.Dataset.from_tensor_slices(numbers).interleave(
            read_copies,
            cycle_length=min(_INTERLEAVED_SHARDS, len(files)),
            block_length=1,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        shuffled = records.shuffle(buffer, seed=tf.cast(seed, tf.int64) * 1_000_003 + epoch)
        return shuffled.enumerate(epoch * _DRAWS_PER_EPOCH)

    return order


def _repeat_each(records: tf.data.Dataset, copies: tf.Tensor) -> tf.data.Dataset:
    counted = tf.data.Dataset.zip((records, tf.data.Dataset.from_tensor_slices(copies)))
    wanted = counted.filter(lambda _, count: count > 0)
    return wanted.flat_map(lambda record, count: tf.data.Dataset.from_tensors(record).repeat(count))


def _starts(files: Sequence[ShardFile]) -> tf.Tensor:
    return tf.constant(np.cumsum([0, *(file.length for file in files)]), tf.int64)
