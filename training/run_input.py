"""The records of a run as its loop sees them: checked, without damaged ones, weighted, cached, in batches."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from records.cache import ExampleCache, choose_cache, decoded_bytes, drop_cache, fill_cache
from records.damage import ShardCheck, explain_damage
from records.files import file_size
from records.info import RecordsInfo, training_splits
from records.input_pipeline import (
    decoded_examples,
    eval_batches,
    steps_per_epoch,
    train_batches,
    train_decoder,
)
from records.mend import describe_lost, mend
from records.mixing import example_weights
from records.order import divide
from records.service import NOT_PROMISED, service_batches
from records.shards import ShardFile
from training.config import TrainConfig
from training.run_folder import RunFolder
from training.workers import Workers

MOST_WAITING = 0.1
"""Share of an epoch's time from which waiting for input is worth advice."""

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class RunInput:
    """What a run reads.

    Attributes:
      info: of the records.
      config: settings of the run.
      workers: which of those that train together this is.
      training, validation: files of the shards.
      weights: how often each training example of this worker is seen, see `records.mixing`; None: all alike.
      cache: the decoded training examples of this worker, or None.
      check: looks for damage in the background; None where that was done before.
      num_lost: damaged records that are left out.
    """

    info: RecordsInfo
    config: TrainConfig
    workers: Workers
    training: list[ShardFile]
    validation: list[ShardFile]
    weights: np.ndarray | None
    cache: ExampleCache | None
    check: ShardCheck | None
    num_lost: int

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return steps_per_epoch(self.training, self.worker_batch_size, self.workers.count)

    @property
    def worker_batch_size(self) -> int:
        """Examples in a batch of this worker."""
        return self.config.global_batch_size // self.workers.count

    def training_batches(self, epoch: int, step: int) -> tf.data.Dataset:
        """Returns this worker's endless batches from there on, see `train_batches`; without strings, which no
        accelerator takes."""
        config = self.config.input
        if config.data_service is not None:
            seed = self.config.seed
            decode = train_decoder(self.info, config, seed)
            batches = service_batches(self.training, self.worker_batch_size, seed, config, decode, epoch)
        else:
            batches = self._read(epoch, step)
        batches = batches.map(lambda batch: {name: batch[name] for name in ("image", "mask")})
        # Where TensorFlow does not know that they never end, all devices wait for one another to tell so at every step.
        return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    def _read(self, epoch: int, step: int) -> tf.data.Dataset:
        return train_batches(
            self.training,
            self.info,
            self.worker_batch_size,
            self.config.seed,
            self.config.input,
            epoch,
            step,
            share=self.workers.share,
            weights=self.weights,
            cache=self.cache,
        )

    def validation_batches(self) -> tf.data.Dataset:
        """Returns this worker's share of the validation examples, each once, see `eval_batches`, without strings.

        Where crops are set they come in tiles, and Dice per image is that per tile.
        """
        local = replace(self.config.input, data_service=None)
        whole = self.config.task == "classify"
        batches = eval_batches(
            self.validation, self.info, self.worker_batch_size, local, self.workers.share, whole_masks=whole
        )
        return batches.map(lambda batch: {name: batch[name] for name in ("image", "mask", "weight")})

    def batch_keys(self, epoch: int, step: int) -> list[str]:
        """Returns the keys of this worker's part of a training batch; none where other machines choose its examples."""
        if self.config.input.data_service is not None:
            return []
        return [key.decode() for key in next(iter(self._read(epoch, step)))["source_id"].numpy()]

    @property
    def is_checked(self) -> bool:
        """Whether no damage can be found any more."""
        return self.check is None or self.check.is_whole

    def raise_if_damaged(self) -> None:
        """Raises ValueError if the check in the background has found damage."""
        if self.check is not None:
            self.check.raise_if_damaged()

    def finish_check(self, tell: Tell, given_up: Callable[[], bool]) -> None:
        """Waits until the check in the background is done or given up, and looks whether a file has been cut since.

        TensorFlow takes a file that was cut between two records for a shorter one.

        Args:
          tell: shows a line to the user.
          given_up: asked again and again whether there is no more time.

        Raises:
          ValueError: there is damage.
        """
        if not self.is_checked:
            tell("checking the shards: what was learnt is kept when they are found whole")
        if self.check is not None:
            self.check.finish(given_up)
        for file in (*self.training, *self.validation):
            if (found := file_size(file.path)) != file.num_bytes:
                raise ValueError(
                    f"{file.path}: expected {file.num_bytes} bytes, found {found}; it has changed while this run read "
                    "it, the same command checks the records anew"
                )

    def remarks(self, waiting: float) -> Iterator[str]:
        """Yields lines for the end of an epoch of which this share was spent waiting for input, if any are due."""
        if self.num_lost:
            yield f"damaged records left out of training and validation: {self.num_lost}"
        if waiting > MOST_WAITING:
            yield f"waiting for input took {waiting:.0%} of the time; what helps: {'; '.join(self._remedies())}"

    def _remedies(self) -> list[str]:
        config = self.config.input
        examples = sum(file.length for file in self.training)
        remedies = []
        if config.threads is not None:
            remedies.append("--input.threads null (every core decodes)")
        if self.cache is None and config.crop is None and config.data_service is None:
            mib = -(-decoded_bytes(self.info, examples) // 2**20)
            remedies.append(f"--input.cache_mib {mib} (memory) or --input.cache_file_mib {mib} (disk): decode once")
        if config.data_service is not None:
            remedies.append("more workers of the data service")
        elif self.cache is not None or self.weights is not None:
            remedies.append("more cores")  # a data service would decode anew each time, and takes no weights
        else:
            remedies.append("more cores, or --input.data_service (other machines decode)")
        return remedies


@contextlib.contextmanager
def open_input(
    records: str,
    info: RecordsInfo,
    run: RunFolder,
    config: TrainConfig,
    workers: Workers,
    progress: Progress,
    tell: Tell,
) -> Iterator[RunInput]:
    """Yields the input of a run. Damage met within the context becomes an error that names the record.

    Args:
      records: folder of the records.
      info: of the records.
      run: where mended shards and a cache in a file go.
      config: settings.
      workers: which of those that train together this is.
      progress, tell: show how far it is, and lines.

    Raises:
      ValueError: records and settings do not fit, or records are damaged.
    """
    splits, validation_split = training_splits(info, config.input.fold)
    training, validation = info.shard_files(records, splits), info.shard_files(records, [validation_split])
    check, num_lost = contextlib.nullcontext(), 0
    if config.input.skip_damaged:
        training, validation, num_lost = _without_damage(records, info, training, validation, run, progress, tell)
    else:
        check = ShardCheck(records, info, training + validation)
    with check as entered, explain_damage(records, info, training + validation):
        if config.input.data_service is not None:
            if any(Path(file.path).parent == run.mended for file in training):
                raise ValueError(
                    "input.data_service: expected whole shards, found damaged ones, and other machines do not see "
                    "those mended in RUN; leave it out, or make the records anew"
                )
            tell(f"{'input':<10} {NOT_PROMISED}")
        own, _ = divide(training, workers.share)
        weights = example_weights(records, info, own, config.input)
        cache = _open_cache(info, own, run, config, progress, tell)
        yield RunInput(info, config, workers, training, validation, weights, cache, entered, num_lost)
    # Not after an error: a run that goes on uses its file again.
    if cache is not None:
        cache.close()


def _without_damage(
    records: str,
    info: RecordsInfo,
    training: list[ShardFile],
    validation: list[ShardFile],
    run: RunFolder,
    progress: Progress,
    tell: Tell,
) -> tuple[list[ShardFile], list[ShardFile], int]:
    """Returns (files of the training shards, of the validation shards, number of records that these lack)."""
    files = training + validation
    with progress("check", sum(file.num_bytes for file in files)) as report:
        files, damaged = mend(records, info, files, run.mended, report)
    for line in describe_lost(damaged):
        tell(line)
    held_out = {file.shard for file in validation}
    return (
        [file for file in files if file.shard not in held_out],
        [file for file in files if file.shard in held_out],
        sum(len(shard.lost) for shard in damaged),
    )


def _open_cache(
    info: RecordsInfo, training: list[ShardFile], run: RunFolder, config: TrainConfig, progress: Progress, tell: Tell
) -> ExampleCache | None:
    examples = sum(file.length for file in training)
    where, reason = choose_cache(info, examples, config.input, run.cache)
    tell(f"{'cache':<10} {reason}")
    if where != "file":
        drop_cache(run.cache)  # of an earlier start with other settings
    if where == "none":
        return None
    with progress("decode", examples) as report:
        decoded = decoded_examples(training, info, config.input)
        return fill_cache(info, training, decoded, report, run.cache if where == "file" else None)


def distribute(workers: Workers, batches: tf.data.Dataset):
    """Returns a worker's batches divided between its devices, and brought to them ahead of time."""
    strategy = workers.strategy
    if workers.count > 1:
        # Each worker has its own batches already. A function is asked for what one device gets.
        replicas = strategy.num_replicas_in_sync // workers.count
        return strategy.distribute_datasets_from_function(lambda _: _split(batches, replicas))
    gpus = tf.config.list_logical_devices("GPU")
    if strategy.num_replicas_in_sync == 1 and gpus:
        # The default strategy leaves batches on the host.
        return batches.apply(tf.data.experimental.prefetch_to_device(gpus[0].name, 2))
    return strategy.experimental_distribute_dataset(batches)


def _split(batches: tf.data.Dataset, parts: int) -> tf.data.Dataset:
    """Returns each batch as so many batches of equal size, one after the other."""
    if parts == 1:
        return batches

    def split(batch):
        return {name: tf.reshape(value, [parts, -1, *value.shape[1:]]) for name, value in batch.items()}

    divided = batches.map(split).unbatch().prefetch(2 * parts)
    endless = batches.cardinality() == tf.data.INFINITE_CARDINALITY
    return divided.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)) if endless else divided
