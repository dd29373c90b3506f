"""Shards: their names and their bytes.

A shard is a TFRecord file. Its frame around each record, as TensorFlow defines it (tensorflow/core/lib/io/
record_writer.h), all little-endian:

  uint64 length | uint32 masked CRC32C of the length | length bytes | uint32 masked CRC32C of those bytes

The frame is written here, not by tf.io.TFRecordWriter, so that writing a shard imports no TensorFlow and knows the
offset of every record, from which a single record can be read later.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import google_crc32c

from records.files import open_file

OFFSETS_FILE = "offsets.parquet"
"""Where each record of each shard begins, and which classes its mask holds."""

FRAME_BYTES = 16
"""What a frame adds to its record: 12 bytes before, 4 behind."""

_NAME = re.compile(r"(?P<dataset>[a-z][a-z0-9_]*)-(?P<split>\w+)\.tfrecord-(?P<index>\d{5,})-of-(?P<count>\d{5,})")


@dataclass(frozen=True)
class Shard:
    """The `index`-th of `count` shards of a split."""

    dataset: str
    split: str
    index: int
    count: int

    @property
    def name(self) -> str:
        """File name, such as nuclei-train.tfrecord-00003-of-00016 (TensorFlow Datasets' scheme)."""
        return f"{self.dataset}-{self.split}.tfrecord-{self.index:05d}-of-{self.count:05d}"

    @staticmethod
    def parse(name: str) -> "Shard | None":
        """Returns the shard of a file name, or None if it is not a shard's."""
        match = _NAME.fullmatch(name)
        return match and Shard(match["dataset"], match["split"], int(match["index"]), int(match["count"]))


@dataclass(frozen=True)
class ShardFile:
    """The file that a shard's records are read from.

    Attributes:
      shard: whose records they are.
      path: of the file; in the records folder, or in RUN where a damaged shard was mended.
      length: number of records in it.
      num_bytes: length of the file.
      lost: positions, in the shard as it was written, of the records that this file lacks.
    """

    shard: Shard
    path: str
    length: int
    num_bytes: int
    lost: tuple[int, ...] = ()


def masked_crc(data: bytes) -> int:
    """Returns TensorFlow's masked CRC32C: rotated right by 15 bits plus a constant."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(record: bytes) -> bytes:
    """Returns the record in its TFRecord frame."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, struct.pack("<I", masked_crc(length)), record, struct.pack("<I", masked_crc(record))))


def file_crc32c(path: str, report: Callable[[int], None] = lambda num_bytes: None) -> str:
    """Returns the CRC32C of a whole file, eight hex digits; `report` is told how many bytes were added, each MiB."""
    crc = 0
    with open_file(path) as file:
        while block := file.read(2**20):
            crc = google_crc32c.extend(crc, block)
            report(len(block))
    return f"{crc:08x}"


def read_shard(path: str) -> Iterator[bytes]:
    """Yields the records of a shard, each checked.

    Raises:
      ValueError: a frame is truncated or a checksum is wrong; the message names the file and the record.
    """
    with open_file(path) as file:
        number = 0
        while (record := _read_frame(file, f"{path}: record {number}")) is not None:
            yield record
            number += 1


def read_record(path: str, offset: int) -> bytes:
    """Returns the one record whose frame begins at `offset`. Raises ValueError as `read_shard` does."""
    with open_file(path) as file:
        file.seek(offset)
        record = _read_frame(file, f"{path}: record at byte {offset}")
    if record is None:
        raise ValueError(f"{path}: expected a record at byte {offset}, found the end of the file")
    return record


def _read_frame(file: BinaryIO, where: str) -> bytes | None:
    header = file.read(12)
    if not header:
        return None
    if len(header) < 12 or masked_crc(header[:8]) != struct.unpack("<I", header[8:])[0]:
        raise ValueError(f"{where}: the length in its frame is damaged")
    (length,) = struct.unpack("<Q", header[:8])
    body = file.read(length + 4)
    if len(body) < length + 4:
        raise ValueError(f"{where}: truncated, expected {length} bytes, found {max(0, len(body) - 4)}")
    if masked_crc(body[:length]) != struct.unpack("<I", body[length:])[0]:
        raise ValueError(f"{where}: its {length} bytes fail their checksum")
    return body[:length]
