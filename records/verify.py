"""Verification: does a records folder hold what its info.json says, to the last byte?"""

from collections.abc import Callable, Iterator

import google_crc32c
import numpy as np

from imaging.codec import decode_mask
from records.files import open_file
from records.info import RecordsInfo, SplitInfo
from records.mixing import has_presence, read_presence
from records.schema import IGNORE, IGNORE_BIT, Record, count_classes, decode, decode_pixels
from records.shards import ShardFile, read_shard

_BLOCK = 2**20


def verify(folder: str, info: RecordsInfo, report: Callable[[int], None]) -> Iterator[str]:
    """Yields a line for every fault, naming the file and the record.

    Checked are every checksum (of files and of records), every count, that every image and mask decodes and agrees
    with what its record says, that masks hold known labels only, that keys are unique, and that records hold the
    classes that offsets.parquet says, where it does.

    Args:
      folder: of the records.
      info: as `read_info` returns it.
      report: is told how many records are done.
    """
    keys: dict[str, str] = {}
    done = 0
    for split, split_info in info.splits.items():
        if not split_info.num_examples:
            continue
        pixels, examples = np.zeros(len(info.classes), np.int64), np.zeros(len(info.classes), np.int64)
        ignored = 0
        objects = [0] * len(split_info.object_counts)
        faults = 0
        for number, file in enumerate(info.shard_files(folder, [split])):
            path = file.path
            presence: dict[int, np.ndarray] = {}
            if fault := _check_file(path, split_info.shard_crc32c[number]):
                faults += 1
                yield fault
            count = 0
            try:
                for count, serialized in enumerate(read_shard(path), 1):
                    where = f"{path}: record {count - 1}"
                    try:
                        record = decode(serialized)
                        counts, unknown = _check_record(record, info)
                    except ValueError as error:
                        faults += 1
                        yield f"{where}: {error}"
                        continue
                    presence[count - 1] = counts > 0
                    pixels += counts
                    examples += counts > 0
                    ignored += unknown
                    if record.objects is not None:
                        objects[min(record.objects.bit_length(), len(objects) - 1)] += 1
                    if record.source_id in keys:
                        yield f"{where}: the key {record.source_id!r} is also that of {keys[record.source_id]}"
                    keys[record.source_id] = where
                    report(done + count)
            except ValueError as error:
                faults += 1
                yield str(error)
            if count != split_info.shard_lengths[number]:
                faults += 1
                yield f"{path}: expected {split_info.shard_lengths[number]} records, found {count}"
            if not fault:
                yield from _check_presence(folder, info, file, presence)
            done += split_info.shard_lengths[number]
            report(done)
        if not faults:
            found = {
                "class_pixels": pixels.tolist(),
                "ignored_pixels": ignored,
                "class_examples": examples.tolist(),
                "object_counts": objects,
            }
            yield from _check_totals(split, split_info, found)


def _check_file(path: str, expected: str) -> str | None:
    crc = 0
    with open_file(path) as file:
        while block := file.read(_BLOCK):
            crc = google_crc32c.extend(crc, block)
    return None if f"{crc:08x}" == expected else f"{path}: expected CRC32C {expected}, found {crc:08x}"


def _check_record(record: Record, info: RecordsInfo) -> tuple[np.ndarray, int]:
    """Returns (pixels of each class, int64 [classes]; ignored pixels). Raises ValueError for what is wrong."""
    if (record.image_format == "raw") != (info.coding == "raw"):
        raise ValueError(f"expected an image coded as {info.coding!r}, found the format {record.image_format!r}")
    image = decode_pixels(record, info.dtype)
    said = (record.height, record.width, record.channels)
    if image.shape != said:
        raise ValueError(f"its image is {image.shape}, its keys say {said}")
    if record.channels != info.channels or image.dtype != info.dtype:
        raise ValueError(f"expected {info.channels} channels of {info.dtype}, found {record.channels} of {image.dtype}")
    if info.height is not None and (record.height, record.width) != (info.height, info.width):
        raise ValueError(f"expected {info.height}x{info.width}, found {record.height}x{record.width}")
    if (record.mask is not None) != info.labeled:
        raise ValueError(f"expected {'a' if info.labeled else 'no'} mask")
    counts, ignored = np.zeros(len(info.classes), np.int64), 0
    if record.mask is not None:
        mask = decode_mask(record.mask)
        if mask.shape != image.shape[:2]:
            raise ValueError(f"its mask is {mask.shape}, its image {image.shape[:2]}")
        _check_labels(mask, info)
        counts, ignored = count_classes(mask, len(info.classes), info.overlapping)
    if info.instances and record.instances is None:
        raise ValueError("expected an instance map")
    if record.instances is not None:
        instances = decode_mask(record.instances)
        if instances.shape != image.shape[:2] or instances.dtype != np.uint16:
            raise ValueError(
                f"its instance map is {instances.dtype}{instances.shape}, expected uint16{image.shape[:2]}"
            )
    return counts, ignored


def _check_presence(folder: str, info: RecordsInfo, file: ShardFile, found: dict[int, np.ndarray]) -> Iterator[str]:
    """Yields a line for each record, by its position, that holds other classes than offsets.parquet says."""
    try:
        if not info.labeled or not has_presence(folder):
            return
        stored = read_presence(folder, info, [file])
    except ValueError as error:
        yield str(error)
        return
    for position, presence in found.items():
        if position >= len(stored):
            return
        if (said := np.flatnonzero(stored[position]).tolist()) != (held := np.flatnonzero(presence).tolist()):
            yield f"{file.path}: record {position}: offsets.parquet says that it holds classes {said}, it holds {held}"


def _check_labels(mask: np.ndarray, info: RecordsInfo) -> None:
    """Raises ValueError for a mask whose dtype or values are none of these records'."""
    dtype = "uint16" if info.overlapping else "uint8"
    if mask.dtype != dtype:
        raise ValueError(f"expected a mask of {dtype}, found {mask.dtype}")
    last = len(info.classes) - 1
    if info.overlapping:
        held = int(np.bitwise_or.reduce(mask, axis=None)) & ~IGNORE_BIT
        if strange := [bit for bit in range(last + 1, 15) if held >> bit & 1]:
            raise ValueError(f"its mask holds the bits {strange}; the classes are bits 0 to {last}, bit 15 = ignore")
    elif strange := [value for value in np.unique(mask).tolist() if value > last and value != IGNORE]:
        raise ValueError(f"its mask holds {strange}; the classes are 0 to {last}, {IGNORE} = ignore")


def _check_totals(split: str, expected: SplitInfo, found: dict[str, int | list[int]]) -> Iterator[str]:
    for name, value in found.items():
        if value != getattr(expected, name):
            yield f"split {split}: expected {name} {getattr(expected, name)}, found {value}"
