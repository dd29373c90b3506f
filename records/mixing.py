"""Weighted mixing: how often each training example occurs in an epoch, by the classes that it holds.

Rare classes come often and common ones seldom, without a sampler beside the pipeline: an epoch stays as long as it is,
and each of its copies is a function of (seed, epoch), so order and resume are as exact as without weights.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from records.config import InputConfig
from records.files import file_size, join, open_file
from records.info import RecordsInfo
from records.shards import OFFSETS_FILE, ShardFile

_CLASSES = "classes"
_ANEW = "preprocess anew with --overwrite"


def has_presence(folder: str) -> bool:
    """Returns whether there is an offsets.parquet that says which classes each record holds.

    Raises:
      ValueError: it is damaged.
    """
    import pyarrow.parquet as pq  # takes half a second, and few runs need it

    path = join(folder, OFFSETS_FILE)
    if file_size(path) is None:
        return False
    with _told_damage(path), open_file(path) as file:
        return _CLASSES in pq.read_schema(file).names


def read_presence(folder: str, info: RecordsInfo, files: Sequence[ShardFile]) -> np.ndarray:
    """Returns which classes each example holds, bool [examples, classes], in the order of the files' records.

    Raises:
      ValueError: the records are unlabelled, or offsets.parquet does not say it, or is damaged.
    """
    _check_presence(folder, info)
    path = join(folder, OFFSETS_FILE)
    lengths = [file.length + len(file.lost) for file in files]
    starts = np.cumsum([0, *lengths])
    presence = np.zeros((starts[-1], len(info.classes)), bool)
    told = np.zeros(starts[-1], bool)
    for numbers, positions, counts, values in _presence_batches(path, [file.shard.name for file in files]):
        strange = (positions < 0) | (positions >= np.take(lengths, numbers))
        if strange.any() or (values < 0).any() or (values >= len(info.classes)).any():
            raise ValueError(f"{path}: expected the records and classes of info.json, found others; {_ANEW}")
        rows = starts[numbers] + positions
        told[rows] = True
        presence[np.repeat(rows, counts), values] = True
    if not told.all():
        raise ValueError(f"{path}: expected {told.size} records in {len(files)} shards, found {told.sum()}; {_ANEW}")
    lost = [start + position for start, file in zip(starts[:-1], files, strict=True) for position in file.lost]
    return np.delete(presence, lost, axis=0)


def _check_presence(folder: str, info: RecordsInfo) -> None:
    path = join(folder, OFFSETS_FILE)
    if not info.labeled:
        raise ValueError(f"{folder}: expected labelled records, found some without masks; nothing is known of classes")
    if not has_presence(folder):
        raise ValueError(
            f"{path}: expected the column {_CLASSES!r}, which --input.foreground_share and --input.class_balance need, "
            f"found none; {_ANEW}"
        )


def _presence_batches(path: str, names: list[str]) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields (numbers of the shards, positions in them, how many classes, these classes one record's behind another's).

    Raises:
      ValueError: the table is damaged.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    columns, of_shards = ["shard", "position", _CLASSES], ds.field("shard").isin(names)
    with _told_damage(path), open_file(path) as file:
        # Groups of rows of other shards alone are not read: their statistics say so.
        for batch in ds.ParquetFileFormat().make_fragment(file).to_batches(columns=columns, filter=of_shards):
            numbers = pc.index_in(batch["shard"], value_set=pa.array(names))
            classes = batch[_CLASSES]
            counts = pc.fill_null(pc.list_value_length(classes), 0)
            yield tuple(array.to_numpy() for array in (numbers, batch["position"], counts, classes.flatten()))


@contextlib.contextmanager
def _told_damage(path: str) -> Iterator[None]:
    """Turns Arrow's errors, which are of these kinds, into one that says what to do."""
    try:
        yield
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); {_ANEW}") from error


def check_weights(folder: str, info: RecordsInfo, config: InputConfig) -> None:
    """Raises ValueError if examples are to be weighted and it is not known which classes they hold."""
    if config.foreground_share is not None or config.class_balance is not None:
        _check_presence(folder, info)


def example_weights(
    folder: str, info: RecordsInfo, files: Sequence[ShardFile], config: InputConfig
) -> np.ndarray | None:
    """Returns how often each example is drawn relative to the others, or None where all are alike.

    Args:
      folder: of the records.
      info: of the records.
      files: of the training shards; lost records count nowhere.
      config: says by what examples are weighted.

    Returns:
      float64 [examples], in the order of the files' records.

    Raises:
      ValueError: the classes that examples hold are not known, or none is of a kind that is wanted.
    """
    if config.foreground_share is None and config.class_balance is None:
        return None
    presence = read_presence(folder, info, files)
    _check_counts(join(folder, OFFSETS_FILE), info, files, presence)
    scored = presence[:, info.scored_classes]
    if config.foreground_share is not None:
        return foreground_weights(scored.any(1), config.foreground_share)
    return balanced_weights(scored, config.class_balance)


def _check_counts(path: str, info: RecordsInfo, files: Sequence[ShardFile], presence: np.ndarray) -> None:
    """Raises ValueError if all examples of the splits are here and are others than info.json counts."""
    splits = [info.splits[split] for split in {file.shard.split for file in files}]
    if len(presence) < sum(split.num_examples for split in splits):
        return
    expected = np.sum([split.class_examples for split in splits], axis=0)
    if (presence.sum(0) != expected).any():
        raise ValueError(
            f"{path}: expected {expected.tolist()} examples of each class, as info.json counts them, found "
            f"{presence.sum(0).tolist()}; {_ANEW}"
        )


def foreground_weights(has_foreground: np.ndarray, share: float) -> np.ndarray:
    """Returns weights by which this share of the examples that are drawn have foreground.

    Args:
      has_foreground: bool [examples].
      share: 0 to 1.

    Returns:
      float64 [examples], together 1.

    Raises:
      ValueError: there are no examples with, or without, foreground, and some are wanted.
    """
    count = int(has_foreground.sum())
    kinds = {"with": (share, count), "without": (1 - share, len(has_foreground) - count)}
    for kind, (wanted, found) in kinds.items():
        if wanted and not found:
            raise ValueError(
                f"input.foreground_share: expected training examples {kind} foreground, as a share of {wanted:g} of an "
                "epoch is to be such, found none; leave --input.foreground_share out"
            )
    with_foreground, without = (wanted / max(1, found) for wanted, found in kinds.values())
    return np.where(has_foreground, with_foreground, without)


def balanced_weights(presence: np.ndarray, power: float) -> np.ndarray:
    """Returns weights by which examples of rare classes are drawn more often.

    Repeat factor sampling (A. Gupta, P. Dollár, R. Girshick: LVIS: a dataset for large vocabulary instance
    segmentation, CVPR 2019), whose class c, held by the share f(c) of the examples, has the factor
    max(1, sqrt(t / f(c))), and an example the largest factor of its classes. Here the factor is (1 / f(c)) ** power:
    no threshold t, because an epoch stays as long as it is and only ratios matter. Examples without any of the classes
    count as a class of their own.

    Args:
      presence: bool [examples, classes], of the classes that count.
      power: 0 (all alike) to 1.

    Returns:
      float64 [examples], each at least 1.
    """
    examples = len(presence)
    weights = np.zeros(examples)
    for kind in (*presence.T, ~presence.any(1)):
        if count := int(kind.sum()):
            # Rounded: the last bit of a power may differ between processors, and the order must not.
            np.maximum(weights, round((examples / count) ** power, 9), out=weights, where=kind)
    return weights


def draw_copies(weights: np.ndarray, seed: int, epoch):
    """Returns how many times each example occurs in an epoch; together as often as there are examples.

    Systematic resampling (G. Kitagawa: Monte Carlo filter and smoother for non-Gaussian nonlinear state space models,
    Journal of Computational and Graphical Statistics 5, 1996; compared with others by R. Douc, O. Cappé and E.
    Moulines: Comparison of resampling schemes for particle filtering, ISPA 2005), of groups of equal weights: one
    random number decides for all groups how many copies each gets, up or down from its expectation by less than one.
    Within a group all have equally many, and chance decides who has one more. The expectations are computed exactly,
    so that rounding neither adds nor loses a copy, on no machine.

    TensorFlow code for graphs too; what does not depend on the epoch is computed once, when it is traced.

    Args:
      weights: float64 [examples], at least 0, not all 0; few different ones (a handful per class) make it quick.
      seed: of the order.
      epoch: int64 [], a number or a tensor.

    Returns:
      int64 [examples], each the expectation examples * weight / (sum of weights), rounded up or down at random so that
      it is right on average.
    """
    import tensorflow as tf  # those who verify records need none of it

    # Outside the graph: arrays as long as the dataset would make it too large.
    with tf.init_scope():
        sizes, places, floors, ends, fractions = (tf.constant(array) for array in _groups(weights))
    seeds = tf.random.experimental.stateless_split(tf.stack([tf.cast(seed, tf.int64), tf.cast(epoch, tf.int64)]), 2)
    start = tf.random.stateless_uniform([], seeds[0], dtype=tf.float64, alg="philox")
    drawn = ends + tf.cast(fractions + start >= 1, tf.int64)
    extras = drawn[1:] - drawn[:-1]

    def copies_of_group(group):
        number, size, floor, extra = group
        copies = floor + tf.cast(tf.range(size) < extra, tf.int64)
        return tf.random.experimental.stateless_shuffle(copies, seeds[1] + [0, number], alg="philox")

    groups = (tf.range(tf.size(sizes, tf.int64)), sizes, floors, extras)
    copies = tf.map_fn(copies_of_group, groups, fn_output_signature=tf.RaggedTensorSpec([None], tf.int64, 0, tf.int64))
    return tf.gather(copies.values, places)


def _groups(weights: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns what `draw_copies` needs of the groups of equal weights.

    Returns:
      (examples of each group, int64 [groups]; place of each example when they are sorted by group, int64 [examples];
      least copies of each example of each group, int64 [groups]; copies beyond these that the first g groups have
      together on average: whole part, int64 [groups + 1], and fraction, float64 [groups + 1]).
    """
    order = np.argsort(weights, kind="stable")
    places = np.empty(len(weights), np.int64)
    places[order] = np.arange(len(weights))
    ordered = weights[order]
    firsts = np.flatnonzero(np.diff(ordered, prepend=-1))
    sizes = np.diff(firsts, append=len(weights))
    exact = [(Fraction(value), size) for value, size in zip(ordered[firsts].tolist(), sizes.tolist(), strict=True)]
    total = sum(value * size for value, size in exact)
    expected = [len(weights) * value / total for value, _ in exact]
    floors = [value // 1 for value in expected]
    beyond = (size * (value % 1) for value, size in zip(expected, sizes.tolist(), strict=True))
    ends = list(itertools.accumulate(beyond, initial=Fraction(0)))
    fractions = np.array([float(end % 1) for end in ends])
    return sizes, places, np.array(floors, np.int64), np.array([end // 1 for end in ends], np.int64), fractions
