"""Damaged shards: found and named.

A shard is damaged if its file has not the length and CRC32C of info.json. Which of its records are lost is decided by
offsets.parquet, which says where each begins: a damaged frame hides no other record, and no sound one. A file of sound
records that are not those of offsets.parquet is not damaged but another shard, and nothing is made of it.
"""

import contextlib
import itertools
import re
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import google_crc32c

from records.checked import CheckedShards
from records.files import join, open_file
from records.info import RecordsInfo
from records.schema import decode
from records.shards import FRAME_BYTES, OFFSETS_FILE, ShardFile, frame, masked_crc, read_shard

ANEW = "`python -m preprocess` with --overwrite makes the records anew"

_POLL = 0.2
"""Seconds between looks at whether a check is given up."""

_NAMED = 3
"""So many lost records of a shard are named; the others are counted."""


@dataclass(frozen=True)
class StoredRecord:
    """What lies at a position of a shard: the key of its record, and the record's length in bytes without its frame."""

    key: str
    length: int


@dataclass(frozen=True)
class LostRecord:
    """A record that cannot be read any more: its position in its shard, its key, and why."""

    position: int
    key: str
    reason: str

    def __str__(self) -> str:
        return f"record {self.position} (key {self.key!r}): {self.reason}"


class ShardCheck:
    """A context in which shards are checked in the background, one MiB at a time.

    It ends with the first damaged shard: one is enough to stop a run, and `verify` names all.
    """

    def __init__(self, folder: str, info: RecordsInfo, files: Sequence[ShardFile]):
        """Takes shards as `RecordsInfo.shard_files` returns them."""
        self._folder, self._info, self._files = folder, info, files
        self._left = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._check, name="shard check", daemon=True)

    def __enter__(self) -> "ShardCheck":
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._left.set()
        self._thread.join(timeout=10)  # storage that hangs must not hang the run's end

    @property
    def is_whole(self) -> bool:
        """Whether every shard is checked, and none is damaged."""
        return not self._thread.is_alive() and self._error is None

    def raise_if_damaged(self) -> None:
        """Raises what was found until now.

        Raises:
          ValueError: a shard is damaged; the message names its file, its lost records and the remedy.
        """
        if self._error is not None:
            raise self._error

    def finish(self, given_up: Callable[[], bool] = lambda: False) -> None:
        """Waits until every shard is checked, or it is given up; raises ValueError as `raise_if_damaged` does."""
        while self._thread.is_alive() and not given_up():
            self._thread.join(_POLL)
        self.raise_if_damaged()

    def _check(self) -> None:
        checked = CheckedShards(self._folder, self._info)
        try:
            for file in self._files:
                if not checked.is_whole(file, self._stop_if_left):
                    raise _damage_error(self._folder, self._info, file)
        except _Left:
            pass
        except Exception as error:  # whatever it is, the thread that trains raises it
            self._error = error
        finally:
            checked.save()

    def _stop_if_left(self, num_bytes: int) -> None:
        if self._left.is_set():
            raise _Left


class _Left(Exception):
    """The context of a `ShardCheck` has been left."""


def stored_records(folder: str, file: ShardFile) -> list[StoredRecord]:
    """Returns what should lie in a shard, from its first byte to its last, by offsets.parquet.

    Raises:
      ValueError: the table is missing or damaged, or does not belong to the shard.
    """
    import pyarrow.parquet  # takes half a second, and only damage needs it

    path = join(folder, OFFSETS_FILE)
    advice = (
        f"by it the records of {file.shard.name} are told apart; "
        "`python -m preprocess` with --overwrite makes them anew"
    )
    try:
        with open_file(path) as opened:
            columns, of_shard = ["key", "position", "offset"], [("shard", "==", file.shard.name)]
            table = pyarrow.parquet.read_table(opened, columns=columns, filters=of_shard).sort_by("position")
        keys, positions, offsets = (table[name].to_pylist() for name in columns)
        lengths = [end - start - FRAME_BYTES for start, end in itertools.pairwise([*offsets, file.num_bytes])]
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); {advice}") from error
    if positions != list(range(file.length)) or offsets[:1] not in ([], [0]) or min(lengths, default=0) < 0:
        raise ValueError(f"{path}: expected {file.length} offsets in {file.shard.name}, found others; {advice}")
    return [StoredRecord(*record) for record in zip(keys, lengths, strict=True)]


def find_damage(file: ShardFile, crc32c: str, records: Sequence[StoredRecord]) -> tuple[LostRecord, ...]:
    """Returns which records of a damaged shard are lost; none where only frames are damaged.

    Args:
      file: as `RecordsInfo.shard_files` returns it.
      crc32c: of the file as it was written, eight hex digits.
      records: as `stored_records` returns them.

    Raises:
      ValueError: it is another shard.
    """
    crc, lost = 0, []
    for position, (record, header, body, footer) in enumerate(read_frames(file.path, records)):
        if _frames_another(header, record.length):
            raise _another_shard_error(file)
        if len(body) < record.length:
            reason = f"truncated, expected {record.length} bytes, found {len(body)}"
            lost.append(LostRecord(position, record.key, reason))
        elif footer != struct.pack("<I", masked_crc(body)):
            lost.append(LostRecord(position, record.key, f"its {record.length} bytes fail their checksum"))
        elif _key(body) != record.key:
            raise _another_shard_error(file)
        crc = google_crc32c.extend(crc, frame(body))
    if f"{crc:08x}" == crc32c:
        return ()  # framed anew, the bodies are the very file that was written: the damage is in frames alone
    if not lost:
        raise _another_shard_error(file)
    return tuple(lost)


def read_frames(path: str, records: Sequence[StoredRecord]) -> Iterator[tuple[StoredRecord, bytes, bytes, bytes]]:
    """Yields (record, header, body, footer), each as long as it should be unless the file ends."""
    with open_file(path) as opened:
        for record in records:
            yield record, opened.read(12), opened.read(record.length), opened.read(4)


def name_lost(lost: Sequence[LostRecord]) -> str:
    """Returns which records are lost: a few by name, the number of the others."""
    if not lost:
        return "frames are damaged, no record is lost"
    more = [f"and {len(lost) - _NAMED} more"] if len(lost) > _NAMED else []
    return "; ".join([*map(str, lost[:_NAMED]), *more])


@contextlib.contextmanager
def explain_damage(folder: str, info: RecordsInfo, files: Sequence[ShardFile]) -> Iterator[None]:
    """Turns TensorFlow's error about a record, met in a batch, into a ValueError that names the record and the remedy.

    What was found whole before is read again, all of `files`, which may take minutes. Errors that do not come out of an
    input pipeline, such as a model's, pass.

    Args:
      folder: of the records.
      info: of the records.
      files: that the batches are read from, as `RecordsInfo.shard_files` or `mend` returns them.
    """
    import tensorflow as tf  # who only mends needs none of it

    try:
        yield
    except (tf.errors.DataLossError, tf.errors.NotFoundError, tf.errors.InvalidArgumentError) as error:
        # The op that fetches a batch, on one device or several; an error of any op behind it carries its name.
        if "IteratorGetNext" not in error.message:
            raise
        _check_again(folder, info, files)
        told = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", error.message).strip().partition("\n")[0].strip()
        if isinstance(error, tf.errors.InvalidArgumentError):
            remedy = f"a record does not decode, and `python -m records verify {folder}` names it; {ANEW}"
        else:
            remedy = "a cache, the memory or the storage failed, and the same command goes on"
        raise ValueError(f"{folder}: no batch ({told}), though every shard is whole: {remedy}") from error


def _check_again(folder: str, info: RecordsInfo, files: Sequence[ShardFile]) -> None:
    """Raises ValueError for the first shard that is damaged by now."""
    checked = CheckedShards(folder, info)
    checked.forget()
    for file in files:
        if file.path != join(folder, file.shard.name):
            _check_mended(file)
        elif not checked.is_whole(file):
            raise _damage_error(folder, info, file)
    checked.save()


def _check_mended(file: ShardFile) -> None:
    try:
        for _ in read_shard(file.path):
            pass
    except (OSError, ValueError) as error:
        raise ValueError(f"{error}; the same command mends the shard anew") from error


def _damage_error(folder: str, info: RecordsInfo, file: ShardFile) -> ValueError:
    lost = find_damage(file, info.stored_crc32c(file), stored_records(folder, file))
    count = f"{len(lost)} of {file.length} records damaged: " if lost else ""
    return ValueError(
        f"{file.path}: {count}{name_lost(lost)}. `python -m records verify {folder}` looks for more. {ANEW}; "
        "train.py (not test.py) goes on without what is lost with --input.skip_damaged"
    )


def _another_shard_error(file: ShardFile) -> ValueError:
    return ValueError(
        f"{file.path}: expected the shard that info.json and {OFFSETS_FILE} speak of, found another file of this name, "
        f"or {OFFSETS_FILE} is damaged; put the right one back, or {ANEW}"
    )


def _frames_another(header: bytes, length: int) -> bool:
    """Returns whether a frame's header is sound and that of a record of another length."""
    sound = len(header) == 12 and struct.unpack("<I", header[8:])[0] == masked_crc(header[:8])
    return sound and struct.unpack("<Q", header[:8])[0] != length


def _key(body: bytes) -> str | None:
    try:
        return decode(body).source_id
    except ValueError:
        return None
