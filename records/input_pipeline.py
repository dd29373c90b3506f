"""Shards to batches (tf.data).

Order is a function of (seed, epoch) alone: a permutation of the shards, a deterministic interleave and a seeded
shuffle of serialized records, all before the first pixel is decoded. A resumed run skips what it has seen.
Batches hold integer pixels; augmentation and normalisation happen on the accelerator.
"""

import contextlib
from collections.abc import Iterator, Sequence

import tensorflow as tf

from records.config import InputConfig
from records.files import join
from records.info import RecordsInfo
from records.schema import parse

_INTERLEAVED_SHARDS = 16


def training_splits(info: RecordsInfo, fold: int | None) -> tuple[list[str], str]:
    """Returns (names of the splits to train on, name of the split to validate on).

    Args:
      info: of the records.
      fold: to validate on; None where the records have a training and a validation split.

    Raises:
      ValueError: the records have folds and none is chosen, or the other way round, or there is no such fold.
    """
    folds = info.folds
    if not folds and fold is None:
        return ["train"], "val"
    if not folds:
        raise ValueError(
            f"input.fold: expected records made with folds, found the splits {', '.join(info.splits)}; "
            "leave --input.fold out, or preprocess with --splits.folds"
        )
    if fold is None:
        raise ValueError(
            f"these records have {len(folds)} folds; say which one validates: --input.fold 0 to {len(folds) - 1}"
        )
    validation = f"fold{fold}"
    if validation not in folds:
        raise ValueError(f"input.fold: expected 0 to {len(folds) - 1}, found {fold}; the records have no such fold")
    # Few groups in many folds leave some empty.
    return [name for name in folds if name != validation and info.splits[name].num_examples], validation


def train_batches(
    folder: str,
    info: RecordsInfo,
    batch_size: int,
    seed: int,
    config: InputConfig,
    splits: Sequence[str] = ("train",),
    start_epoch: int = 0,
    start_step: int = 0,
) -> tf.data.Dataset:
    """Returns endless training batches from (start_epoch, start_step) on.

    Every epoch has `steps_per_epoch` batches of all the splits' examples; what is left of its permutation is dropped.

    Returns:
      A dataset of dicts: "image" uint8 or uint16 [batch, height, width, channels], "mask" uint8 (uint16 where classes
      overlap) [batch, height, width], "source_id" and "group" string [batch].

    Raises:
      ValueError: the splits have fewer examples than a batch, or images of several sizes.
    """
    steps = steps_per_epoch(info, batch_size, splits)
    paths = [join(folder, shard.name) for split in splits for shard in info.shards(split)]
    examples = sum(info.splits[split].num_examples for split in splits)
    record_bytes = sum(sum(info.splits[split].shard_bytes) for split in splits) / examples
    buffer = max(1, min(examples, int(config.shuffle_mib * 2**20 / record_bytes)))

    def epoch_records(epoch):
        # Of this function's graph alone: the order must not depend on the program's global seed.
        tf.random.set_seed(1)
        shards = tf.random.experimental.stateless_shuffle(tf.constant(paths), seed=[seed, epoch])
        records = tf.data.Dataset.from_tensor_slices(shards).interleave(
            tf.data.TFRecordDataset, cycle_length=min(_INTERLEAVED_SHARDS, len(paths)), block_length=1
        )
        shuffled = records.shuffle(buffer, seed=tf.cast(seed, tf.int64) * 1_000_003 + epoch)
        return shuffled.take(steps * batch_size)

    # One iterator over all epochs: decoding runs ahead across their borders.
    records = tf.data.Dataset.range(start_epoch, tf.int64.max).flat_map(epoch_records)
    # Skipped before decoding, so resuming costs only the reading.
    records = records.skip(start_step * batch_size)
    parsed = records.map(_parser(info), _threads(config), deterministic=True)
    batches = parsed.batch(batch_size, drop_remainder=True).prefetch(config.prefetch)
    return batches.with_options(_options())


def eval_batches(folder: str, info: RecordsInfo, batch_size: int, split: str, config: InputConfig) -> tf.data.Dataset:
    """Returns every example of a split once, in the order of the shards.

    The last batch is padded to full size: padding has weight 0, so scores do not depend on the batch size.

    Returns:
      A dataset of dicts as `train_batches` has, with "weight" float32 [batch]: 1 for examples, 0 for padding.
      Without "mask" where the records are unlabelled.
    """
    _check_uniform(info)
    paths = [join(folder, shard.name) for shard in info.shards(split)]
    total = info.splits[split].num_examples
    examples = tf.data.TFRecordDataset(paths).map(_parser(info), _threads(config), deterministic=True)
    examples = examples.map(lambda example: example | {"weight": 1.0})
    padding = -total % batch_size
    if padding:
        # All shapes are known: _parser set them.
        empty = {name: tf.zeros(spec.shape, spec.dtype) for name, spec in examples.element_spec.items()}
        examples = examples.concatenate(tf.data.Dataset.from_tensors(empty).repeat(padding))
    batches = examples.batch(batch_size, drop_remainder=True).prefetch(config.prefetch)
    return batches.with_options(_options())


@contextlib.contextmanager
def explain_damage(folder: str) -> Iterator[None]:
    """Turns TensorFlow's error about a damaged or missing record, met in a batch, into one that says what to do."""
    try:
        yield
    except tf.errors.NotFoundError as error:
        raise ValueError(f"{folder}: the records are gone; `python -m preprocess` makes them anew") from error
    except tf.errors.DataLossError as error:
        raise ValueError(
            f"{folder}: a record is damaged ({error.message}); `python -m records verify {folder}` names it, "
            "`python -m preprocess` with --overwrite makes the records anew"
        ) from error


def steps_per_epoch(info: RecordsInfo, batch_size: int, splits: Sequence[str] = ("train",)) -> int:
    """Returns the number of full batches of an epoch over these splits.

    Raises:
      ValueError: there is not even one, or the images cannot be batched.
    """
    _check_uniform(info)
    for split in splits:
        info.shards(split)
    examples = sum(info.splits[split].num_examples for split in splits)
    if examples < batch_size:
        raise ValueError(
            f"expected at least one batch of {batch_size} in split {', '.join(map(repr, splits))}, found "
            f"{examples} examples; choose a smaller --global_batch_size"
        )
    return examples // batch_size


def _check_uniform(info: RecordsInfo) -> None:
    if info.height is None:
        raise ValueError(
            "expected images of one size, found several (the records keep native sizes); preprocess with --size"
        )


def _parser(info: RecordsInfo):
    def parse_one(serialized):
        example = parse(
            serialized,
            channels=info.channels,
            dtype=info.dtype,
            labeled=info.labeled,
            overlapping=info.overlapping,
            raw=info.coding == "raw",
        )
        example["image"].set_shape([info.height, info.width, info.channels])
        if info.labeled:
            example["mask"].set_shape([info.height, info.width])
        return example

    return parse_one


def _threads(config: InputConfig) -> int:
    return tf.data.AUTOTUNE if config.threads is None else config.threads


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # Without this, MirroredStrategy tries to shard by file, warns, and shards by data after all.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options
