"""Shards to batches (tf.data).

Training: the order of the examples (`records.order`), decoding, whole or in crops, or a look into the cache, batches.
Evaluation: every example once, in the order of the shards. Batches hold integer pixels; augmentation and normalisation
happen on the accelerator.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import tensorflow as tf

from imaging.tiling import count_tiles
from records.cache import ExampleCache
from records.config import InputConfig
from records.crop import choose_window, pad, tiles
from records.info import RecordsInfo
from records.order import (
    EVERYTHING,
    Share,
    buffer_sizes,
    divide,
    epoch_order,
    example_counts,
    record_indices,
    serialized_records,
)
from records.schema import parse
from records.shards import ShardFile

Example = dict[str, tf.Tensor]


def train_batches(
    files: Sequence[ShardFile],
    info: RecordsInfo,
    batch_size: int,
    seed: int,
    config: InputConfig,
    start_epoch: int = 0,
    start_step: int = 0,
    *,
    share: Share = EVERYTHING,
    weights: np.ndarray | None = None,
    cache: ExampleCache | None = None,
) -> tf.data.Dataset:
    """Returns endless training batches from (start_epoch, start_step) on.

    Every epoch has `steps_per_epoch` batches; what is left of its order is dropped.

    Args:
      files: of all training shards.
      info: of the records.
      batch_size: examples in a batch of one worker.
      seed: of the order, and of where crops are cut.
      config: settings.
      start_epoch, start_step: of the first batch; what comes before it is skipped without being decoded.
      share: which worker this is, of how many.
      weights: float64 [examples], see `records.mixing`, of the examples in the files that this worker reads; None: each
        example once an epoch.
      cache: the decoded examples of those files; None: they are decoded each time.

    Returns:
      A dataset of dicts: "image" uint8 or uint16 [batch, height, width, channels], "mask" uint8 (uint16 where classes
      overlap) [batch, height, width], "source_id" and "group" string [batch].

    Raises:
      ValueError: there are fewer examples than a batch; images of several sizes and no crops; or crops, and no masks.
    """
    check_sizes(info, config)
    if config.crop is not None and not info.labeled:
        raise ValueError("input.crop: expected records with masks, by which crops are cut, found unlabelled ones")
    steps = steps_per_epoch(files, batch_size, share.count)
    files, part = divide(files, share)
    assert weights is None or len(weights) == sum(file.length for file in files), "weights of other files"
    shuffled, read_ahead = buffer_sizes(files, config.shuffle_mib)
    read = serialized_records(files) if cache is None else record_indices(files)
    order = epoch_order(files, read, seed, shuffled, weights)

    def epoch_draws(epoch):
        return order(epoch).shard(part.count, part.index).take(steps * batch_size)

    # One iterator over all epochs: decoding runs ahead across their borders.
    draws = tf.data.Dataset.range(start_epoch, tf.int64.max).flat_map(epoch_draws)
    # Skipped before decoding, so resuming costs only the reading.
    draws = draws.skip(start_step * batch_size).prefetch(read_ahead)
    if cache is None:
        examples = draws.map(train_decoder(info, config, seed), _threads(config), deterministic=True)
        batches = examples.batch(batch_size, drop_remainder=True)
    else:
        batches = draws.batch(batch_size, drop_remainder=True).map(
            lambda _, indices: cache.lookup(indices), _threads(config), deterministic=True
        )
    return batches.prefetch(config.prefetch).with_options(_options(config))


def check_sizes(info: RecordsInfo, config: InputConfig) -> None:
    """Raises ValueError unless examples, or crops of them, have one size."""
    if info.height is None and config.crop is None:
        raise ValueError(
            "expected images of one size, found several (the records keep native sizes); cut squares out of them with "
            "--input.crop 256, or preprocess with --size"
        )


def steps_per_epoch(files: Sequence[ShardFile], batch_size: int, workers: int = 1) -> int:
    """Returns the number of full batches that each worker has in an epoch.

    Args:
      files: of all training shards.
      batch_size: examples in a batch of one worker.
      workers: that share the examples.

    Raises:
      ValueError: there is not even one.
    """
    examples = min(example_counts(files, workers))
    if examples < batch_size:
        splits = ", ".join(sorted({repr(file.shard.split) for file in files}))
        each = f" for each of {workers} workers" if workers > 1 else ""
        raise ValueError(
            f"expected at least one batch of {batch_size} in split {splits}, found "
            f"{examples} examples{each}; choose a smaller --global_batch_size"
        )
    return examples // batch_size


def eval_batches(
    files: Sequence[ShardFile],
    info: RecordsInfo,
    batch_size: int,
    config: InputConfig,
    share: Share = EVERYTHING,
    *,
    whole_masks: bool = False,
    overlap: int = 0,
    details: bool = False,
) -> tf.data.Dataset:
    """Returns every example once, in the order of the shards; where crops are set, in the tiles that cover it.

    The last batch is padded to full size: padding has weight 0, so scores do not depend on the batch size. All workers
    get the same number of batches, some of them all padding.

    Args:
      files: of all the split's shards.
      info: of the records.
      batch_size: examples in a batch of one worker.
      config: settings; `crop` is the side of the tiles, see `records.crop.tiles`.
      share: which worker this is, of how many.
      whole_masks, overlap: of tiles, see there.
      details: whether to add what `records.schema.parse_details` reads; of tiles it is that of their image.

    Returns:
      A dataset of dicts as `train_batches` has, with "weight" float32 [batch]: 1 for examples, 0 for padding; of tiles
      with "tile" int32 [batch, 4]. Without "mask" where the records are unlabelled.

    Raises:
      ValueError: the settings name a data service; images have several sizes, and there is no side for tiles or there
        are several workers, whose numbers of tiles are not known beforehand.
    """
    if config.data_service is not None:
        raise ValueError(
            "input.data_service: expected none for evaluation, which reads every example exactly once; a data service "
            f"does not promise that, found {config.data_service}; leave it out"
        )
    check_sizes(info, config)
    padding = _count_padding(example_counts(files, share.count), info, batch_size, config.crop, overlap, share)
    files, part = divide(files, share)
    serialized = tf.data.TFRecordDataset([file.path for file in files]).shard(part.count, part.index)
    examples = serialized.map(_decoder(info, details), _threads(config), deterministic=True)
    if config.crop is not None:
        how = {"size": config.crop, "info": info, "whole_masks": whole_masks, "overlap": overlap}
        examples = examples.flat_map(partial(tiles, **how))
    # All shapes are known: the decoder or the tiles set them.
    empty = {name: tf.zeros(spec.shape, spec.dtype) for name, spec in examples.element_spec.items()}
    weighted = examples.map(lambda example: example | {"weight": 1.0})
    padded = weighted.concatenate(tf.data.Dataset.from_tensors(empty | {"weight": 0.0}).repeat(padding))
    return padded.batch(batch_size, drop_remainder=True).prefetch(config.prefetch).with_options(_options(config))


def _count_padding(
    counts: list[int], info: RecordsInfo, batch_size: int, crop: int | None, overlap: int, share: Share
) -> int:
    """Returns how many empty examples a worker needs behind its own for as many full batches as every worker has."""
    if info.height is not None:
        tiles_per_image = 1 if crop is None else count_tiles(info.height, info.width, crop, overlap)
        return -(-max(counts) * tiles_per_image // batch_size) * batch_size - counts[share.index] * tiles_per_image
    if share.count > 1:
        raise ValueError(f"expected images of one size for {share.count} workers, found several; evaluate with one")
    # The number of tiles is not known. Enough for a last full batch; what remains of it is dropped.
    return batch_size - 1


def train_decoder(info: RecordsInfo, config: InputConfig, seed: int) -> Callable[[tf.Tensor, tf.Tensor], Example]:
    """Returns a function from (draw int64 [], serialized record string []) to the example, or a random crop of it.

    Where the crop is cut is a function of (seed, draw), see `epoch_order`.
    """
    if config.crop is None:
        decode_whole = _decoder(info)
        return lambda _, serialized: decode_whole(serialized)

    def decode_crop(draw, serialized):
        window = partial(
            choose_window,
            size=config.crop,
            foreground_probability=config.foreground_crops,
            info=info,
            seed=tf.stack([tf.cast(seed, tf.int64), draw]),
        )
        return pad(_parse(serialized, info, window), config.crop, info)

    return decode_crop


def decoded_examples(files: Sequence[ShardFile], info: RecordsInfo, config: InputConfig) -> tf.data.Dataset:
    """Returns the decoded examples of all files, in their order."""
    serialized = tf.data.TFRecordDataset([file.path for file in files])
    return serialized.map(_decoder(info), _threads(config), deterministic=True).with_options(_options(config))


def _decoder(info: RecordsInfo, details: bool = False) -> Callable[[tf.Tensor], Example]:
    def decode(serialized):
        example = _parse(serialized, info, details=details)
        example["image"].set_shape([info.height, info.width, info.channels])
        if info.labeled:
            example["mask"].set_shape([info.height, info.width])
        return example

    return decode


def _parse(serialized: tf.Tensor, info: RecordsInfo, window=None, details: bool = False) -> Example:
    return parse(
        serialized,
        channels=info.channels,
        dtype=info.dtype,
        labeled=info.labeled,
        overlapping=info.overlapping,
        raw=info.coding == "raw",
        window=window,
        details=details,
    )


def _threads(config: InputConfig) -> int:
    return tf.data.AUTOTUNE if config.threads is None else config.threads


def _options(config: InputConfig) -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.ram_budget = config.autotune_mib * 2**20
    # Without this, MirroredStrategy tries to shard by file, warns, and shards by data after all.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options
