"""Decoded training examples, kept so that each is decoded once: in memory, or in a file beside the run.

The pixels are one array per feature, handed to TensorFlow without a copy, and looked up by TensorFlow alone, so that
no Python and no lock of its interpreter stand between the cache and the batches. tf.data's own cache would fix the
order of the examples with the first epoch; here places are looked up, in the order that each epoch has.
"""

import json
import mmap
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import tensorflow as tf

from records.config import InputConfig
from records.info import RecordsInfo
from records.shards import ShardFile

_CONTENT_FILE = "content.json"
_BATCH_BYTES = 8 * 2**20
"""Decoded at a time while the cache is filled: what it needs beyond its own size."""

Report = Callable[[int], None]


class ExampleCache:
    """Decoded examples by their places. Make it outside of `strategy.scope()`, which would copy it to every device.

    Args:
      columns: one array per feature, [examples, ...]; arrays of pixels begin at a multiple of 64 bytes and are
        writable, which TensorFlow asks of memory that it uses as it is.
      folder: to be deleted by `close`, or None.
    """

    def __init__(self, columns: dict[str, np.ndarray | tf.Tensor], folder: Path | None = None):
        assert not tf.distribute.has_strategy(), "expected no strategy's scope, which mirrors variables"
        # Variables, because every iterator over a dataset copies whatever plain tensors its functions capture.
        with tf.device("/cpu:0"):
            self._columns = {name: tf.Variable(_as_tensor(column), trainable=False) for name, column in columns.items()}
        self._folder = folder

    def lookup(self, indices: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the examples at these places, int64 [batch], as a batch: every feature [batch, ...].

        Works in functions of datasets. A place beyond the last is tf.errors.InvalidArgumentError.
        """
        # Gathering from the variable itself would copy it whole, to guard against writers; there are none.
        return {name: tf.gather(column.read_value(), indices) for name, column in self._columns.items()}

    def close(self) -> None:
        """Deletes the file, and lets go of the memory, which is free when the datasets that look into it are gone."""
        self._columns = {}
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def decoded_bytes(info: RecordsInfo, num_examples: int) -> int | None:
    """Returns the bytes of so many examples' pixels, images and masks; None where images have several sizes."""
    if info.height is None:
        return None
    pixel_bytes = info.channels * np.dtype(info.dtype).itemsize
    if info.labeled:
        pixel_bytes += 2 if info.overlapping else 1
    return num_examples * info.height * info.width * pixel_bytes


def choose_cache(
    info: RecordsInfo, num_examples: int, config: InputConfig, folder: Path
) -> tuple[Literal["memory", "file", "none"], str]:
    """Returns (where decoded examples are kept, the reason in words): in memory if they fit there, else in a file.

    Args:
      info: of the records.
      num_examples: to keep.
      config: has the budgets.
      folder: where the file would go; what lies there counts as free, because it is used again or replaced.
    """
    needed = decoded_bytes(info, num_examples)
    if needed is None or config.crop is not None or config.data_service is not None:
        return "none", f"none: {_why_not(info, config)}"
    need = f"{num_examples:,} decoded examples need {_mib(needed):,}"
    if needed <= config.cache_mib * 2**20:
        return "memory", f"memory: {need} of {config.cache_mib:,} MiB"
    if needed > config.cache_file_mib * 2**20:
        on_disk = f" and --input.cache_file_mib {config.cache_file_mib:,}" if config.cache_file_mib else ""
        return "none", f"none: {need} MiB, --input.cache_mib allows {config.cache_mib:,}{on_disk}"
    free = _free_bytes(folder)
    if needed > free:
        return "none", f"none: {need} MiB, the disk of {folder} has {free // 2**20:,} free"
    return "file", f"file: {need} of {config.cache_file_mib:,} MiB"


def _why_not(info: RecordsInfo, config: InputConfig) -> str:
    if info.height is None:
        return "images have several sizes"
    return "other crops are decoded each time" if config.crop is not None else "other machines decode"


def fill_cache(
    info: RecordsInfo,
    files: Sequence[ShardFile],
    examples: tf.data.Dataset,
    report: Report,
    folder: Path | None = None,
) -> ExampleCache:
    """Returns a cache of all the examples.

    Args:
      info: of the records.
      files: that hold the examples.
      examples: all of them decoded, not batched, in the order of the files.
      report: is told how many are done.
      folder: for a cache in a file: what lies there is used again if it was made of the same files, else replaced;
        None: a cache in memory.

    Raises:
      ValueError: there are more or fewer examples than the files should have, or no room for them.
    """
    total = sum(file.length for file in files)
    if folder is None:
        return ExampleCache(_fill_memory(examples, total, report))
    content = {
        "fingerprint": info.fingerprint,
        "shards": [{"name": file.shard.name, "lost": list(file.lost)} for file in files],
    }
    columns = _open_file(folder, content, examples)
    if columns is None:
        _fill_file(folder, content, examples, total, report)
        columns = _open_file(folder, content, examples)
        assert columns is not None, f"{folder}: expected what was just written"
    else:
        report(total)
    return ExampleCache(columns, folder)


def drop_cache(folder: Path) -> None:
    """Deletes what earlier starts left in the folder of a cache in a file, and beside it."""
    for old in (folder, _partial(folder)):
        shutil.rmtree(old, ignore_errors=True)


def _partial(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.partial")


def _fill_memory(examples: tf.data.Dataset, total: int, report: Report) -> dict[str, np.ndarray | tf.Tensor]:
    specs = _pixel_specs(examples)
    try:
        # Mapped anew, not taken from the heap: it begins at a whole page, and goes back to the system when freed.
        buffers = {
            name: mmap.mmap(-1, total * _num_bytes(spec), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            for name, spec in specs.items()
        }
    except OSError as error:
        needed = _mib(total * sum(map(_num_bytes, specs.values())))
        raise ValueError(
            f"expected {needed:,} MiB of memory for decoded examples, found {error.strerror!r}; lower --input.cache_mib"
        ) from error
    columns = _write_columns(examples, total, buffers, report)
    for name, spec in specs.items():
        columns[name] = np.frombuffer(buffers[name], spec.dtype.as_numpy_dtype).reshape(total, *spec.shape)
    return columns


def _fill_file(folder: Path, content: dict, examples: tf.data.Dataset, total: int, report: Report) -> None:
    """Writes one .npy file per feature into a temporary folder, which is renamed when it is whole."""
    partial = _partial(folder)
    drop_cache(folder)
    try:
        partial.mkdir(parents=True)
        with ExitStack() as stack:
            files = {}
            for name, spec in _pixel_specs(examples).items():
                files[name] = stack.enter_context(_column_path(partial, name).open("wb"))
                # NumPy pads the header, so that the pixels begin at a multiple of 64 bytes.
                descr = np.dtype(spec.dtype.as_numpy_dtype).str
                header = {"descr": descr, "fortran_order": False, "shape": (total, *spec.shape)}
                np.lib.format.write_array_header_1_0(files[name], header)
            # Written, not mapped: a full disk is then an error, where it would kill a process that writes to a map.
            texts = _write_columns(examples, total, files, report)
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
        for name, column in texts.items():
            np.save(_column_path(partial, name), column.numpy().astype("S"))
        (partial / _CONTENT_FILE).write_text(json.dumps(content))
        partial.replace(folder)
    except OSError as error:
        needed = _mib(total * sum(map(_num_bytes, _pixel_specs(examples).values())))
        raise ValueError(
            f"{folder}: expected {needed:,} MiB of room for decoded examples, found {error.strerror!r}; "
            "free some, or leave --input.cache_file_mib out"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _open_file(folder: Path, content: dict, examples: tf.data.Dataset) -> dict[str, np.ndarray] | None:
    """Returns the columns of a file cache, or None if there is none of this content."""
    try:
        if json.loads((folder / _CONTENT_FILE).read_text()) != content:
            return None
        pixels = _pixel_specs(examples)
        # Shared with the file, not private: private memory is promised by the system, which has less than the disk.
        return {
            name: np.load(_column_path(folder, name), mmap_mode="r+" if name in pixels else None)
            for name in examples.element_spec
        }
    except (OSError, EOFError, ValueError):  # none there, or not as it was written
        return None


def _write_columns(
    examples: tf.data.Dataset, total: int, sinks: dict[str, BinaryIO | mmap.mmap], report: Report
) -> dict[str, tf.Tensor]:
    """Writes pixels one after another into their sinks; returns the features that are strings, [examples]."""
    example_bytes = sum(map(_num_bytes, _pixel_specs(examples).values()))
    texts = {name: [] for name in examples.element_spec if name not in sinks}
    done = 0
    size = max(1, min(total, _BATCH_BYTES // example_bytes))
    for batch in examples.batch(size).prefetch(1):
        done += len(next(iter(batch.values())))
        if done > total:
            break
        for name, sink in sinks.items():
            sink.write(batch[name].numpy())
        for name, parts in texts.items():
            parts.append(batch[name])
        report(done)
    if done != total:
        raise ValueError(
            f"expected {total} examples in the shards, found {'more' if done > total else done}; "
            "`python -m records verify` names what is wrong"
        )
    return {name: tf.concat(parts, 0) for name, parts in texts.items()}


def _pixel_specs(examples: tf.data.Dataset) -> dict[str, tf.TensorSpec]:
    return {name: spec for name, spec in examples.element_spec.items() if spec.dtype != tf.string}


def _num_bytes(spec: tf.TensorSpec) -> int:
    return spec.shape.num_elements() * spec.dtype.size


def _column_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"


def _as_tensor(column: np.ndarray | tf.Tensor) -> tf.Tensor:
    """Returns a tensor; of pixels, one that uses the array's own memory."""
    if isinstance(column, tf.Tensor) or column.dtype.kind == "S":
        return tf.convert_to_tensor(column)
    return tf.experimental.dlpack.from_dlpack(column.__dlpack__())


def _free_bytes(folder: Path) -> int:
    """Returns the free room of the folder's disk, and what lies in the folder."""
    present = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    partial = _partial(folder)
    reused = sum(path.stat().st_size for old in (folder, partial) if old.is_dir() for path in old.iterdir())
    return shutil.disk_usage(present).free + reused


def _mib(num_bytes: int) -> int:
    return -(-num_bytes // 2**20)
