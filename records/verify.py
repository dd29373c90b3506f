"""Verification: does a records folder hold what its info.json says, to the last byte?"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from imaging.codec import decode_mask
from records.damage import StoredRecord, find_damage, stored_records
from records.files import file_size, join
from records.info import RecordsInfo, SplitInfo
from records.mixing import has_presence, read_presence
from records.schema import IGNORE, IGNORE_BIT, Record, count_classes, decode, decode_pixels
from records.shards import OFFSETS_FILE, ShardFile, file_crc32c, read_shard


def verify(folder: str, info: RecordsInfo, report: Callable[[int], None]) -> Iterator[str]:
    """Yields a line for every fault, naming the file and the record.

    Checked are every checksum (of files and of records), every count, that every image and mask decodes and agrees
    with what its record says, that masks hold known labels only, that keys are unique, and that records hold the
    classes that offsets.parquet says, where it does.

    Args:
      folder: of the records.
      info: as `read_info` returns it, with or without the check of lengths.
      report: is told how many records are done.
    """
    keys: dict[str, str] = {}
    done = 0
    for split, split_info in info.splits.items():
        if not split_info.num_examples:
            continue
        tally = _Tally(np.zeros((2, len(info.classes)), np.int64), [0] * len(split_info.object_counts))
        faults = 0
        for file in info.shard_files(folder, [split]):
            for fault in _verify_shard(folder, info, file, tally, keys, report):
                faults += 1
                yield fault
            done += file.length
            report(done)
        if not faults:
            yield from _check_totals(split, split_info, tally)


@dataclass
class _Tally:
    """What the records of a split hold: [pixels, examples] of each class, bins of object counts, ignored pixels."""

    classes: np.ndarray
    objects: list[int]
    ignored: int = 0


def _verify_shard(
    folder: str,
    info: RecordsInfo,
    file: ShardFile,
    tally: _Tally,
    keys: dict[str, str],
    report: Callable[[int], None],
) -> Iterator[str]:
    """Yields the faults of a shard; adds what its records hold to the tally, and their keys to all keys."""
    crc, expected = file_crc32c(file.path), info.stored_crc32c(file)
    if crc != expected:
        yield f"{file.path}: expected CRC32C {expected}, found {crc}"
    held: dict[int, np.ndarray] = {}
    stored: list[StoredRecord] = []
    count = 0
    try:
        for count, serialized in enumerate(read_shard(file.path), 1):
            where = f"{file.path}: record {count - 1}"
            try:
                record = decode(serialized)
                stored.append(StoredRecord(record.source_id, len(serialized)))
                pixels, ignored = _check_record(record, info)
            except ValueError as error:
                yield f"{where}: {error}"
                continue
            held[count - 1] = pixels > 0
            tally.classes += pixels, pixels > 0
            tally.ignored += ignored
            if record.objects is not None:
                tally.objects[min(record.objects.bit_length(), len(tally.objects) - 1)] += 1
            if record.source_id in keys:
                yield f"{where}: the key {record.source_id!r} is also that of {keys[record.source_id]}"
            keys[record.source_id] = where
            report(len(keys))
    except ValueError as error:
        yield str(error)
        yield from _name_lost_behind(folder, info, file, count)
        return
    if count != file.length:
        yield f"{file.path}: expected {file.length} records, found {count}"
    if crc == expected:
        yield from _check_stored(folder, file, stored)
        yield from _check_presence(folder, info, file, held)


def _name_lost_behind(folder: str, info: RecordsInfo, file: ShardFile, position: int) -> Iterator[str]:
    """Yields a line for each record that is lost behind this one, whose frame or bytes are damaged."""
    if file_size(join(folder, OFFSETS_FILE)) is None:
        yield f"{file.path}: records behind that one were not read"
        return
    try:
        lost = find_damage(file, info.stored_crc32c(file), stored_records(folder, file))
    except ValueError as error:
        yield str(error)
        return
    for record in lost:
        if record.position > position:
            yield f"{file.path}: {record}"


def _check_stored(folder: str, file: ShardFile, found: list[StoredRecord]) -> Iterator[str]:
    """Yields what offsets.parquet says otherwise of a whole shard's records."""
    if file_size(join(folder, OFFSETS_FILE)) is None:
        return
    try:
        said = stored_records(folder, file)
    except ValueError as error:
        yield str(error)
        return
    for position, (there, here) in enumerate(zip(said, found, strict=False)):
        if there != here:
            yield f"{file.path}: record {position}: {OFFSETS_FILE} says {there}, it is {here}"


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


def _check_totals(split: str, expected: SplitInfo, tally: _Tally) -> Iterator[str]:
    found = {
        "class_pixels": tally.classes[0].tolist(),
        "ignored_pixels": tally.ignored,
        "class_examples": tally.classes[1].tolist(),
        "object_counts": tally.objects,
    }
    for name, value in found.items():
        if value != getattr(expected, name):
            yield f"split {split}: expected {name} {getattr(expected, name)}, found {value}"
